//! Copies of files that are mostly holes: memories and disks. Called by `template`, and by who makes
//! the disks of boxes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

const COPY_CHUNK: usize = 128 << 10;

/// Where a file has data.
///
/// # Errors
/// When it can't be read, or has more than `limit` pieces.
pub fn extents(file: &File, limit: usize) -> io::Result<Vec<Range<u64>>> {
    let size = file.metadata()?.len();
    let mut extents = Vec::new();
    let mut from = 0;
    while from < size {
        let start = match seek(file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        from = seek(file, SeekFrom::Hole(start))?;
        extents.push(start..from);
        if extents.len() > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not sparse"));
        }
    }
    Ok(extents)
}

/// Makes `to`, an empty file, a copy of `length` bytes: by reflink where the file system can, else
/// by copying the places that hold data.
///
/// # Errors
/// With the cause; `to` is then to be thrown away.
pub fn copy(from: &File, extents: &[Range<u64>], to: &File, length: u64) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    extents.iter().try_for_each(|extent| copy_range(from, to, extent.clone()))?;
    Ok(ftruncate(to, length)?)
}

fn copy_range(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let (mut read_at, mut write_at) = (range.start, range.start);
    while read_at < range.end {
        let length = (range.end - read_at) as usize;
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            // Another file system, or one that can't.
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
                return copy_by_hand(from, to, read_at..range.end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut buffer = vec![0; COPY_CHUNK];
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(COPY_CHUNK as u64) as usize;
        from.read_exact_at(&mut buffer[..length], at)?;
        to.write_all_at(&buffer[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data at both ends and in the middle.
    fn holey() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        for at in [0, 1 << 20, (1 << 30) - 4096] {
            file.write_all_at(&[at as u8 | 7; 4096], at).unwrap();
        }
        file
    }

    #[test]
    fn a_copy_by_hand_has_the_data_and_the_holes() {
        let (from, to) = (holey(), tempfile::tempfile().unwrap());
        let pieces = extents(&from, 3).unwrap();
        for piece in &pieces {
            copy_by_hand(&from, &to, piece.clone()).unwrap();
        }
        assert_eq!(extents(&to, 3).unwrap(), pieces);
        let mut last = [0; 4096];
        to.read_exact_at(&mut last, (1 << 30) - 4096).unwrap();
        assert_eq!(last, [7; 4096]);
    }

    #[test]
    fn a_file_in_too_many_pieces_is_refused() {
        assert_eq!(extents(&holey(), 2).unwrap_err().to_string(), "it is not sparse");
    }
}
