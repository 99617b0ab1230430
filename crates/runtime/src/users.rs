//! Who needs an image: boxes, and what was captured of them. Asked before an image is removed.

use boxwood_types::Digest;

use crate::{Error, Runtime};

/// Images in use, and by whom.
#[derive(Clone, Debug)]
pub struct ImageUsers(Vec<(Digest, String)>);

impl ImageUsers {
    /// One who needs it, for people.
    pub fn of(&self, image: &Digest) -> Option<String> {
        self.0.iter().find(|(used, _)| used == image).map(|(_, user)| user.clone())
    }
}

impl Runtime {
    /// Who needs which image now. What can't be read is told to `broken`.
    ///
    /// # Errors
    /// When the home can't be read.
    pub fn image_users(&self, broken: &mut dyn FnMut(Error)) -> Result<ImageUsers, Error> {
        let boxes = self.list(broken)?;
        let boxes =
            boxes.into_iter().map(|one| (one.spec.image.id, format!("box {}", one.spec.name)));
        let snapshots = self.snapshots(broken)?.into_iter();
        let snapshots =
            snapshots.map(|one| (one.info.source.image.id, format!("snapshot {}", one.info.name)));
        Ok(ImageUsers(boxes.chain(snapshots).collect()))
    }
}
