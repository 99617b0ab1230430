//! Makes built images visible. Called at the end of load, import and the default image.

use boxwood_types::{Digest, ImageName};

use super::record::{BlockRecord, Record, VERSION};
use super::temp::Temp;
use super::{ImageStore, failed};
use crate::error::ImageError;

/// An image ready to be published.
#[derive(Debug)]
pub(crate) struct NewImage {
    pub(crate) id: Digest,
    /// The configuration document.
    pub(crate) raw: String,
    /// The built block image; None when the store had the image already.
    pub(crate) block: Option<(Temp, BlockRecord)>,
    pub(crate) names: Vec<ImageName>,
}

impl ImageStore {
    /// Publishes all of these images, or fails before the first of their names changes.
    pub(crate) fn publish(&self, images: Vec<NewImage>) -> Result<(), ImageError> {
        let lock = self.lock()?;
        let mut names: Vec<(ImageName, Digest)> = Vec::new();
        for image in images {
            names.extend(image.names.into_iter().map(|name| (name, image.id.clone())));
            let Some((temp, block)) = image.block else {
                // It was there when the load began; it may have been removed since.
                if self.present(&image.id)? {
                    continue;
                }
                return Err(ImageError::Damaged {
                    id: image.id.short().to_owned(),
                    reason: "it was removed while it was loaded again".to_owned(),
                });
            };
            if self.present(&image.id)? {
                // Someone else loaded it meanwhile; boxes may have its block image open already.
                continue;
            }
            let record = Record { version: VERSION, id: image.id, config: image.raw, block };
            temp.place(&self.block_path(&record.id))?;
            let path = self.record_path(&record.id);
            let bytes = serde_json::to_vec_pretty(&record)
                .map_err(|error| failed("write", &path)(error.into()))?;
            self.write_small(&lock, &path, &bytes)?;
        }
        self.change_tags(&lock, |tags| tags.extend(names))
    }
}
