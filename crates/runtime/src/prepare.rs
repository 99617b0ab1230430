//! What a box needs before it can be made: image, kernel, guest, blank disk, template. Cheap when all
//! of it is there; whatever is missing is made, once, and the caller hears of each step.

use std::fmt;
use std::path::Path;

use boxwood_image::Image;
use boxwood_setup::{Assets, BlankDisk, Sources};
use boxwood_shim::greeting;
use boxwood_state::TemplateRef;
use boxwood_types::Shape;
use boxwood_vmm::{BakeRequest, BootFiles, Engine, Templates};

use crate::{Error, Runtime};

/// What a box is made from.
#[derive(Debug)]
pub struct Prepared {
    /// The image.
    pub image: Image,
    /// The template of the shape.
    pub template: TemplateRef,
    /// The empty disk.
    pub blank: BlankDisk,
}

/// A step that takes long enough to be told.
#[derive(Debug)]
pub enum Progress {
    /// Of the kernel, guest and disk.
    Setup(boxwood_setup::Progress),
    /// Of the template.
    Template(boxwood_vmm::Progress),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Setup(step) => step.fmt(f),
            Progress::Template(step) => step.fmt(f),
        }
    }
}

impl Runtime {
    /// Finds or makes everything a box of this image and shape needs.
    ///
    /// # Errors
    /// When the image is not there, or something could not be made.
    pub async fn prepare(
        &self,
        image: &str,
        shape: Shape,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Prepared, Error> {
        let image = self.images()?.resolve(image)?;
        let (stores, sources) = (self.stores(), Sources::from_env()?);
        let mut step = |step| progress(Progress::Setup(step));
        let assets = Assets::ensure(&stores, &sources, &mut step)?;
        let blank = BlankDisk::ensure(&stores, &mut step)?;
        let template = self.template(&assets, shape, progress).await?;
        Ok(Prepared { image, template, blank })
    }

    /// Looks for a newer kernel. Templates of the old one are baked again when they are next used.
    ///
    /// # Errors
    /// When it could not be had; the old one stays in use.
    pub async fn refresh(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let mut step = |step| progress(Progress::Setup(step));
        Assets::refresh(&self.stores(), &Sources::from_env()?, &mut step)?;
        Ok(())
    }

    async fn template(
        &self,
        assets: &Assets,
        shape: Shape,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TemplateRef, Error> {
        let cache = self.locations.cache();
        let engine = Engine::find(&cache)?;
        let accelerator = boxwood_vmm::probe(&cache)?.accelerator;
        let store = self.locations.templates();
        let boot = boot_files(assets);
        let request = BakeRequest { engine: &engine, accelerator, boot: &boot, shape };
        let idle = async |channel| {
            let idle = greeting::wait_idle(channel).await;
            idle.map_err(|error| -> boxwood_vmm::IdleError { Box::new(error) })
        };
        let mut step = |step| progress(Progress::Template(step));
        let template = Templates::open(&store).ensure(&request, idle, &mut step).await?;
        Ok(TemplateRef { store, key: template.key().to_owned() })
    }

    /// The templates in the store.
    pub fn templates(&self) -> Templates {
        Templates::open(&self.locations.templates())
    }
}

/// What a template is booted with.
pub(crate) fn boot_files(assets: &Assets) -> BootFiles {
    let path = |path: &Path| path.to_owned();
    BootFiles {
        vmlinux: path(&assets.vmlinux),
        vmlinux_sha256: assets.vmlinux_sha256.clone(),
        initramfs: path(&assets.initramfs),
        initramfs_sha256: assets.initramfs_sha256.clone(),
    }
}
