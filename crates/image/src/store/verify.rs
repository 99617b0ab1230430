//! Reads a block image in full and compares it with its record. Called at the user's will.

use super::{Image, ImageStore, failed};
use crate::erofs::content_digest;
use crate::error::ImageError;
use crate::limits::IMAGE_DISK_BYTES;

impl ImageStore {
    /// Whether the image is still, byte by byte, what was stored; an error when not.
    pub fn verify(&self, image: &Image) -> Result<(), ImageError> {
        let damaged = |reason: String| ImageError::Damaged { id: image.id.short().into(), reason };
        let record = self.record(&image.id)?;
        let record = record.ok_or_else(|| ImageError::NotFound(image.id.to_string()))?;
        let file = image.open_block()?;
        let found =
            content_digest(&file, IMAGE_DISK_BYTES).map_err(failed("read", &image.block))?;
        if found != record.block.digest {
            let expected = record.block.digest;
            return Err(damaged(format!("its content's digest is {found}, not {expected}")));
        }
        Ok(())
    }
}
