//! Removing names and images, with `docker rmi`'s rules. Called by the runtime, which knows the
//! boxes.

use boxwood_types::{Digest, ImageName};

use super::{ImageStore, failed, sync_directory};
use crate::error::ImageError;

/// How to remove.
#[derive(Clone, Copy)]
pub enum Removal<'a> {
    /// Refuse when an ID has several names, or when something uses the image. The function says
    /// what uses it, such as "box web".
    Careful(&'a dyn Fn(&Digest) -> Option<String>),
    /// Take all names away. The image goes too unless something uses it; then it stays, without a
    /// name, and can be removed by its ID later.
    Forced(&'a dyn Fn(&Digest) -> Option<String>),
}

impl std::fmt::Debug for Removal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Removal::Careful(_) => "Careful",
            Removal::Forced(_) => "Forced",
        })
    }
}

/// What a removal took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The names.
    pub untagged: Vec<ImageName>,
    /// The image, when it went with its last name.
    pub deleted: Option<Digest>,
}

impl ImageStore {
    /// Removes an image by name (the image itself goes with its last name) or by ID.
    ///
    /// A running box keeps its open block image; that it can't be started again is why the caller
    /// says who uses the image.
    pub fn remove(&self, reference: &str, removal: Removal<'_>) -> Result<Removed, ImageError> {
        let lock = self.lock()?;
        self.remove_leftovers(&lock)?;
        let tags = self.tags()?;
        let id = self.identify(reference, &tags)?;
        let names: Vec<ImageName> = tags
            .iter()
            .filter(|(_, tagged)| **tagged == id)
            .map(|(name, _)| name.clone())
            .collect();
        let named = match reference.parse::<ImageName>() {
            Ok(name) if names.contains(&name) => Some(name),
            _ => None,
        };
        let untagged = match (&named, removal) {
            (Some(name), _) => vec![name.clone()],
            (None, Removal::Careful(_)) if names.len() > 1 => {
                let names: Vec<String> = names.iter().map(ImageName::familiar).collect();
                let (id, names) = (id.short().to_owned(), names.join(", "));
                return Err(ImageError::SeveralNames { id, names });
            }
            (None, _) => names.clone(),
        };
        let last = untagged.len() == names.len();
        let mut delete = last;
        if last {
            match removal {
                Removal::Careful(in_use) => {
                    if let Some(user) = in_use(&id) {
                        return Err(ImageError::InUse { id: id.short().to_owned(), user });
                    }
                }
                Removal::Forced(in_use) => delete = in_use(&id).is_none(),
            }
        }
        self.change_tags(&lock, |tags| tags.retain(|name, _| !untagged.contains(name)))?;
        if delete {
            self.delete(&id)?;
        }
        Ok(Removed { untagged, deleted: delete.then_some(id) })
    }

    /// Removes the record first: a block image without one counts as a leftover.
    fn delete(&self, id: &Digest) -> Result<(), ImageError> {
        for path in [self.record_path(id), self.block_path(id)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => path.parent().map_or(Ok(()), sync_directory)?,
            }
        }
        Ok(())
    }
}
