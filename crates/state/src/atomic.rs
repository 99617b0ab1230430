//! Small files that are whole or not there: written beside, synced, renamed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::StateError;

/// The largest small file, in bytes: a spec with the longest command line Linux takes.
pub const MAX_FILE: u64 = 16 << 20;

/// Replaces `directory/name` by `value` as JSON. Readers see the old or the new, never half.
///
/// # Errors
/// When a step fails; the old file is then untouched.
pub fn replace<T: Serialize>(directory: &Path, name: &str, value: &T) -> Result<(), StateError> {
    exchange(directory, name, value, Sync::Now)?;
    sync_directory(directory)
}

/// The same where a crash of the host may leave the old one as well as the new.
///
/// # Errors
/// When a step fails; the old file is then untouched.
pub fn replace_in_time<T: Serialize>(
    directory: &Path,
    name: &str,
    value: &T,
) -> Result<(), StateError> {
    exchange(directory, name, value, Sync::Now)
}

/// The same for what need not survive a crash of the host.
///
/// # Errors
/// When a step fails; the old file is then untouched.
pub fn replace_unsynced<T: Serialize>(
    directory: &Path,
    name: &str,
    value: &T,
) -> Result<(), StateError> {
    exchange(directory, name, value, Sync::Never)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Now,
    Never,
}

fn exchange<T: Serialize>(
    directory: &Path,
    name: &str,
    value: &T,
    sync: Sync,
) -> Result<(), StateError> {
    let path = directory.join(name);
    let beside = directory.join(format!(".{name}.new"));
    let bytes = serde_json::to_vec(value)
        .map_err(|source| StateError::Damaged { path: path.clone(), source })?;
    let result = write(&beside, &bytes, sync)
        .inspect(|()| crate::failpoint("write: beside"))
        .and_then(|()| fs::rename(&beside, &path).map_err(StateError::io("replace", &path)));
    if result.is_err() {
        // The error at hand says what happened; a leftover is overwritten by the next writer.
        let _ = fs::remove_file(&beside);
    }
    result
}

/// Makes the entries of a directory survive a crash of the host.
///
/// # Errors
/// When it can't be opened or synced.
pub fn sync_directory(directory: &Path) -> Result<(), StateError> {
    let sync = || File::open(directory)?.sync_all();
    sync().map_err(StateError::io("sync", directory))
}

/// Reads a file that [`replace`] wrote. `None` when it is not there.
///
/// # Errors
/// When it can't be read, is too large, or is not what `T` expects.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    match File::open(path) {
        Ok(file) => parse(&file, path).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::io("read", path)(source)),
    }
}

/// Which file was read last: it is not read again until it was replaced.
#[derive(Debug, Default)]
pub struct Known {
    /// Kept open, so that no other file is given its number.
    file: Option<(File, u64)>,
}

impl Known {
    /// Reads a file that [`replace`] wrote, unless it is the one that was read last. `None` when it is, or
    /// is not there.
    ///
    /// # Errors
    /// When it can't be read, is too large, or is not what `T` expects.
    pub fn read<T: DeserializeOwned>(&mut self, path: &Path) -> Result<Option<T>, StateError> {
        let read = StateError::io("read", path);
        let number = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.ino(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(read(source)),
        };
        if self.file.as_ref().is_some_and(|(_, known)| *known == number) {
            return Ok(None);
        }
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.ino(), file)));
        let (number, file) = opened.map_err(read)?;
        let value = parse(&file, path)?;
        self.file = Some((file, number));
        Ok(Some(value))
    }
}

fn parse<T: DeserializeOwned>(file: &File, path: &Path) -> Result<T, StateError> {
    // Records and specs are shorter: one read.
    let mut bytes = Vec::with_capacity(4096);
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(StateError::io("read", path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(StateError::TooLarge { path: path.to_owned(), limit: MAX_FILE });
    }
    serde_json::from_slice(&bytes)
        .map_err(|source| StateError::Damaged { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), StateError> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(StateError::io("write", path))?;
    file.write_all(bytes).map_err(StateError::io("write", path))?;
    match sync {
        Sync::Now => file.sync_data().map_err(StateError::io("sync", path)),
        Sync::Never => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h12_a_known_file_is_read_again_when_it_was_replaced_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("name");
        let mut known = Known::default();
        assert_eq!(known.read::<String>(&path).unwrap(), None, "it is not there");
        for name in ["one", "two", "six"] {
            replace_unsynced(directory.path(), "name", &name).unwrap();
            assert_eq!(known.read::<String>(&path).unwrap().as_deref(), Some(name));
            assert_eq!(known.read::<String>(&path).unwrap(), None, "it is known");
        }
        fs::write(directory.path().join("torn"), "{").unwrap();
        fs::rename(directory.path().join("torn"), &path).unwrap();
        assert!(known.read::<String>(&path).is_err());
        assert!(known.read::<String>(&path).is_err(), "what was not read is not known");
    }
}
