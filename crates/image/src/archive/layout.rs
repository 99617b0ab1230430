//! An OCI layout in a directory. Called by the loader.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{ArchiveError, Blobs};
use crate::region::Region;

/// A directory whose files are opened one name at a time, so that no symbolic link is followed.
#[derive(Debug)]
pub(crate) struct Layout {
    root: File,
    path: PathBuf,
}

impl Layout {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Layout { root: File::from(root), path: path.to_owned() })
    }

    fn open_file(&self, path: &str) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut at = self
            .root
            .try_clone()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let (directories, name) = path.rsplit_once('/').unwrap_or(("", path));
        for directory in directories.split('/').filter(|name| !name.is_empty()) {
            let flags = flags | OFlags::DIRECTORY;
            at = File::from(rustix::fs::openat(&at, directory, flags, Mode::empty())?);
        }
        Ok(File::from(rustix::fs::openat(&at, name, flags, Mode::empty())?))
    }
}

impl Blobs for Layout {
    fn find(&self, path: &str) -> Result<Option<Region>, ArchiveError> {
        let shown = || self.path.join(path).display().to_string();
        let failed = |source| ArchiveError::Read { path: shown(), source };
        let file = match self.open_file(path) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let reason = "it is, or lies behind, a symbolic link";
                return Err(ArchiveError::Member { path: shown(), reason });
            }
            Err(error) => return Err(failed(error.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ArchiveError::Member { path: shown(), reason: "it is no regular file" });
        }
        Ok(Some(Region::new(Arc::new(file), 0, metadata.len())))
    }
}
