//! The image store: a directory that any number of processes use at the same time.
//!
//! ```text
//! <dir>/lock                       held (flock) while the files below change, for milliseconds
//! <dir>/tags.json                  name -> image ID
//! <dir>/records/<hex of ID>.json   the image's configuration, and what its block image must be
//! <dir>/blocks/<hex of ID>.erofs   the block image
//! <dir>/tmp/                       files being written, each locked by its writer
//! ```
//!
//! Each file appears whole, by rename, after it is on the disk: first the block image, then its
//! record, then its names. Readers take no lock. Whoever changes the store first removes what dead
//! writers left: temporaries whose lock is free, and block images without a record. Whoever lists it
//! or loads what it has already does so, too, if there are temporaries.

mod build;
mod load;
mod publish;
mod query;
mod record;
mod remove;
mod source;
mod tags;
mod temp;
mod verify;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use boxwood_types::{Digest, ImageName};

use crate::error::ImageError;
use crate::limits::Limits;

pub(crate) use build::{Build, Merged};
pub use load::{Loaded, Progress};
pub(crate) use publish::NewImage;
pub use query::{Image, ImageSummary};
pub use remove::{Removal, Removed};
pub use source::Source;
pub(crate) use source::{Opened, input_name, open_file};

/// A directory of images.
#[derive(Clone, Debug)]
pub struct ImageStore {
    dir: PathBuf,
    limits: Limits,
}

/// The store's lock, held until dropped or until its process dies.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

impl ImageStore {
    /// Opens the store in this directory, and makes it when it is not there.
    pub fn open(dir: &Path) -> Result<ImageStore, ImageError> {
        let dir = std::path::absolute(dir).map_err(failed("find", dir))?;
        for name in ["", "blocks", "records", "tmp"] {
            let path = dir.join(name);
            make_directory(&path).map_err(failed("make", &path))?;
        }
        Ok(ImageStore { dir, limits: Limits::default() })
    }

    /// A store with other limits, for tests.
    #[cfg(test)]
    pub(crate) fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where the store is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives an image another name, and takes the name away from the image that had it.
    pub fn tag(&self, reference: &str, name: &ImageName) -> Result<(), ImageError> {
        let image = self.resolve(reference)?;
        let lock = self.lock()?;
        // It may have gone meanwhile.
        self.record(image.id())?.ok_or_else(|| ImageError::NotFound(reference.to_owned()))?;
        self.change_tags(&lock, |tags| {
            tags.insert(name.clone(), image.id().clone());
        })
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    fn block_path(&self, id: &Digest) -> PathBuf {
        self.dir.join("blocks").join(format!("{}.erofs", id.hex()))
    }

    fn record_path(&self, id: &Digest) -> PathBuf {
        self.dir.join("records").join(format!("{}.json", id.hex()))
    }

    fn tags_path(&self) -> PathBuf {
        self.dir.join("tags.json")
    }

    fn temp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Waits for the store's lock. Its holders only rename and sync small files, and the kernel
    /// frees the lock of a process that dies, so there is no deadline.
    fn lock(&self) -> Result<StoreLock, ImageError> {
        let path = self.dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed("open", &path))?;
        while let Err(error) = file.lock() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(failed("lock", &path)(error));
            }
        }
        Ok(StoreLock { _file: file })
    }
}

/// An I/O error with the step and the file it belongs to.
pub(crate) fn failed<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> ImageError + 'a {
    move |source| ImageError::Store { doing, path: path.to_owned(), source }
}

/// Makes a directory for its owner alone; images can hold secrets.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a rename in this directory durable.
fn sync_directory(path: &Path) -> Result<(), ImageError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", path))
}

#[cfg(test)]
mod tests;
