//! The digest of a block image's content, independent of which zeros are holes. Called when an
//! image is stored and when it is verified.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use boxwood_types::Digest;
use rustix::fs::SeekFrom;
use sha2::{Digest as _, Sha256};

use super::data::is_zero;
use crate::limits::BLOCK;

/// SHA-256 over each block that is not all zeros: its number (64 bits, little-endian), its bytes.
/// Reads only what is stored, up to `limit`: where file systems know no holes, all of it counts as
/// stored.
pub(crate) fn content_digest(file: &File, limit: u64) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while let Some(data) = seek(file, SeekFrom::Data(at))?.filter(|data| *data < limit) {
        // A file that shrinks while it is read has no hole there; the read below then finds its end.
        let end = seek(file, SeekFrom::Hole(data))?.unwrap_or(data).min(limit);
        at = at.max(data / BLOCK * BLOCK);
        while at < end {
            let read = file.read_at(&mut buffer, at)?;
            if read == 0 {
                break;
            }
            let whole =
                if read as u64 >= BLOCK { read / BLOCK as usize * BLOCK as usize } else { read };
            for block in buffer[..whole].chunks(BLOCK as usize) {
                if at < end && !is_zero(block) {
                    hash.update((at / BLOCK).to_le_bytes());
                    hash.update(block);
                }
                at += BLOCK;
            }
        }
        at = at.max(end);
    }
    Ok(Digest::from_bytes(&hash.finalize().into()))
}

fn seek(file: &File, to: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Ok(offset) => Ok(Some(offset)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
