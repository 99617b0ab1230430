//! Room on the disk for how a box has ended, taken when its run begins: a disk that is full by then must not make
//! its end unknown. Part of [`BoxDir`](crate::BoxDir).
//!
//! What is written there replaces the record by a rename, which takes no room.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::failpoint;

const ROOM: &str = ".end";
/// In bytes: several times a record without its message.
const SIZE: usize = 4096;

/// Takes it, or what is missing of it.
pub(crate) fn take(directory: &Path) -> io::Result<()> {
    let path = directory.join(ROOM);
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    fill(file).inspect_err(|_| drop(fs::remove_file(&path)))
}

fn fill(mut file: File) -> io::Result<()> {
    match fallocate(&file, FallocateFlags::empty(), 0, SIZE as u64) {
        // Such a file system keeps room for what is written only.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.write_all(&[0; SIZE]),
        taken => Ok(taken?),
    }
}

/// Replaces `directory/name` by these bytes, and uses the room up. `false` when none was taken.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<bool> {
    let path = directory.join(ROOM);
    let mut file = match File::options().write(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_data()?;
    failpoint("write: beside");
    fs::rename(&path, directory.join(name))?;
    File::open(directory)?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn h5_room_is_taken_once_and_used_up_by_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        assert!(!replace(directory, "record", b"none was taken").unwrap());
        take(directory).unwrap();
        take(directory).unwrap();
        let room = fs::metadata(directory.join(ROOM)).unwrap();
        assert!(room.blocks() * 512 >= SIZE as u64, "{room:?}");
        fs::write(directory.join("record"), "old").unwrap();
        assert!(replace(directory, "record", b"new").unwrap());
        assert_eq!(fs::read(directory.join("record")).unwrap(), b"new");
        assert!(!replace(directory, "record", b"once").unwrap());
    }
}
