//! `boxwood load`: archives and layouts become images. Called by the CLI and the daemon.

use boxwood_types::{Digest, ImageName};

use super::{ImageStore, Merged, NewImage, Source, input_name};
use crate::archive::{self, ImagePlan};
use crate::error::ImageError;
use crate::layer::Ending;

/// What a load or import is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Keeping a stream, so many plain bytes by now.
    Reading {
        /// Bytes by now.
        bytes: u64,
    },
    /// Merging a layer.
    Layer {
        /// The image's ID; an import's is only known at its end.
        image: Option<Digest>,
        /// Which layer, from 1.
        layer: usize,
        /// Of how many.
        layers: usize,
        /// Plain bytes of it by now.
        bytes: u64,
    },
    /// All content has been read; it is being written to the disk.
    Writing,
    /// Something of a directory that is not imported.
    Skipped {
        /// Its path.
        path: std::path::PathBuf,
        /// Why.
        reason: &'static str,
    },
}

/// An image that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its ID.
    pub id: Digest,
    /// The names it was given; none, and it can be used by its ID.
    pub names: Vec<ImageName>,
    /// Whether the store had it already, and only the names are new.
    pub existed: bool,
}

impl ImageStore {
    /// Loads all images of an archive or layout, with their names: all of them or none.
    pub fn load(
        &self,
        source: Source,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Loaded>, ImageError> {
        self.sweep();
        let input = input_name(&source);
        let (blobs, stem) = self.blobs(source, progress)?;
        let plans = archive::plan(&*blobs, stem.as_deref())
            .map_err(|source| ImageError::Archive { input, source })?;
        let mut images = Vec::new();
        let mut loaded = Vec::new();
        for plan in plans {
            let existed = self.present(&plan.id)?;
            let block = match existed {
                true => None,
                false => Some(self.build_plan(&plan, progress)?),
            };
            loaded.push(Loaded { id: plan.id.clone(), names: plan.names.clone(), existed });
            images.push(NewImage { id: plan.id, raw: plan.raw, block, names: plan.names });
        }
        self.publish(images)?;
        Ok(loaded)
    }

    fn build_plan(
        &self,
        plan: &ImagePlan,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(super::temp::Temp, super::record::BlockRecord), ImageError> {
        let mut build = self.build()?;
        let layers = plan.layers.len();
        for (at, layer) in plan.layers.iter().enumerate() {
            let label = format!("{} of {layers} ({})", at + 1, layer.path);
            let merged = Merged {
                label: &label,
                ending: Ending::Any,
                stored: layer.stored.as_ref(),
                diff_id: Some(&layer.diff_id),
            };
            build.merge(layer.region.reader(), merged, &mut |bytes| {
                let image = Some(plan.id.clone());
                progress(Progress::Layer { image, layer: at + 1, layers, bytes });
            })?;
        }
        progress(Progress::Writing);
        build.finish()
    }
}
