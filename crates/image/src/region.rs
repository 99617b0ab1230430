//! A stretch of a file, read without moving the file's own position: a member of an archive, a blob
//! of a layout. Called by the archive readers, which make them, and by the layer stream.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes `offset..offset + len` of a file.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    file: Arc<File>,
    offset: u64,
    len: u64,
}

impl Region {
    pub(crate) fn new(file: Arc<File>, offset: u64, len: u64) -> Self {
        Region { file, offset, len }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The first bytes, at most `count`.
    pub(crate) fn start(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count);
        self.reader().take(count as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// All of it, which the caller has bounded. A file that shrank meanwhile is an error.
    pub(crate) fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len as usize];
        self.file.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }

    pub(crate) fn reader(&self) -> RegionReader {
        RegionReader { region: self.clone() }
    }
}

/// Reads a region front to back.
#[derive(Debug)]
pub(crate) struct RegionReader {
    region: Region,
}

impl Read for RegionReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let region = &mut self.region;
        let wanted = (buffer.len() as u64).min(region.len) as usize;
        let read = region.file.read_at(&mut buffer[..wanted], region.offset)?;
        if read == 0 && wanted > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        region.offset += read as u64;
        region.len -= read as u64;
        Ok(read)
    }
}
