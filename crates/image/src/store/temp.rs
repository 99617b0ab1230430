//! Files being written, and what dead writers left of theirs. Called by everything that writes to
//! the store.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use boxwood_types::Digest;
use rustix::fs::{Mode, OFlags};

use super::{ImageStore, StoreLock, failed, sync_directory};
use crate::error::ImageError;

/// A temporary file. Its lock, held as long as it is open, proves its writer alive.
#[derive(Debug)]
pub(crate) struct Temp {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Temp {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Renames the file, which is on the disk already, to its place, and syncs the directory.
    pub(super) fn place(mut self, to: &Path) -> Result<(), ImageError> {
        std::fs::rename(&self.path, to).map_err(failed("rename a file to", to))?;
        self.kept = true;
        to.parent().map_or(Ok(()), sync_directory)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: what stays is removed by the next writer, for its lock is free then.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl ImageStore {
    /// A new temporary file; first, what dead writers left is removed.
    pub(crate) fn temp(&self) -> Result<Temp, ImageError> {
        let lock = self.lock()?;
        self.remove_leftovers(&lock)?;
        self.temp_locked(&lock)
    }

    /// A new temporary file. Under the store's lock, or a cleaner could see it before it is locked.
    pub(super) fn temp_locked(&self, _lock: &StoreLock) -> Result<Temp, ImageError> {
        let mut random = [0; 16];
        let dir = self.temp_dir();
        getrandom::fill(&mut random)
            .map_err(|error| failed("name a file in", &dir)(io::Error::other(error.to_string())))?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = dir.join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(failed("make", &path))?;
        let temp = Temp { path, file, kept: false };
        temp.file.try_lock().map_err(|error| failed("lock", &temp.path)(lock_error(error)))?;
        Ok(temp)
    }

    /// Writes a small file: whole, on the disk, then by rename.
    pub(super) fn write_small(
        &self,
        lock: &StoreLock,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), ImageError> {
        use std::io::Write;
        let temp = self.temp_locked(lock)?;
        temp.file().write_all(bytes).map_err(failed("write", temp.path()))?;
        temp.file().sync_all().map_err(failed("sync", temp.path()))?;
        temp.place(path)
    }

    /// Removes what dead writers left, for those who are about to read. A look, when there is nothing;
    /// who may not write to the store leaves it to others.
    pub(super) fn sweep(&self) {
        if files(&self.temp_dir()).is_ok_and(|left| !left.is_empty()) {
            let _ = self.lock().and_then(|lock| self.remove_leftovers(&lock));
        }
    }

    /// Removes temporaries of dead writers, and block images that never got their record.
    pub(super) fn remove_leftovers(&self, _lock: &StoreLock) -> Result<(), ImageError> {
        for path in files(&self.temp_dir())? {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
            if File::from(file).try_lock().is_ok() {
                std::fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        for path in files(&self.dir.join("blocks"))? {
            let id = path.file_stem().and_then(|hex| hex.to_str());
            let id = id.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            if id.is_some_and(|id| !self.record_path(&id).exists()) {
                std::fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let entries = std::fs::read_dir(dir).map_err(failed("list", dir))?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(failed("list", dir))
}

fn lock_error(error: TryLockError) -> io::Error {
    match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    }
}
