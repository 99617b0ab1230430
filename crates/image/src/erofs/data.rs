//! Appends file data to the block image, block-aligned, leaving zeros as holes. Called by the layer
//! merge and by import, file by file; the metadata writer uses it for its own blocks too.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::WriteError;
use crate::limits::BLOCK;
use crate::tree::Extent;

/// How much is gathered before it is written.
const BUFFER: usize = 1 << 20;

/// A hole this short is written as zeros, and [`DataWriter::flush`] finds it.
static SHORT_HOLE: [u8; 4 * BLOCK as usize] = [0; 4 * BLOCK as usize];

/// A file of the image that grows at its end.
#[derive(Debug)]
pub(crate) struct DataWriter {
    file: File,
    path: PathBuf,
    limit: u64,
    /// Not yet written; starts at `start`, which is a block boundary.
    buffer: Vec<u8>,
    start: u64,
}

impl DataWriter {
    /// Takes an empty file; data starts after the superblock's block.
    pub(crate) fn new(file: File, path: &Path, limit: u64) -> Self {
        let buffer = Vec::with_capacity(BUFFER + BLOCK as usize);
        DataWriter { file, path: path.to_owned(), limit, buffer, start: BLOCK }
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Reserves the place of a file of this size, before a byte of it is read.
    pub(crate) fn begin(&mut self, size: u64) -> Result<Extent, WriteError> {
        let position = self.position();
        let left = self.limit.saturating_sub(position);
        let fits = size.checked_next_multiple_of(BLOCK).is_some_and(|needed| needed <= left);
        if !fits {
            return Err(WriteError::TooBig { needed: size, left, limit: self.limit });
        }
        // A block number fits: the limit is far below 2^32 blocks.
        Ok(Extent { block: (position / BLOCK) as u32, size })
    }

    /// Appends bytes of the file begun last.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let step = bytes.len().min(BUFFER - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..step]);
            bytes = &bytes[step..];
            if self.buffer.len() == BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Appends a hole.
    pub(crate) fn zeros(&mut self, count: u64) -> Result<(), WriteError> {
        if count <= SHORT_HOLE.len() as u64 {
            return self.write(&SHORT_HOLE[..count as usize]);
        }
        let end = self.position() + count;
        let to_boundary = (self.position().next_multiple_of(BLOCK) - self.position()).min(count);
        self.write(&SHORT_HOLE[..to_boundary as usize])?;
        self.flush()?;
        self.start = end / BLOCK * BLOCK;
        self.write(&SHORT_HOLE[..(end % BLOCK) as usize])
    }

    /// Ends a file: the next one starts at a block boundary.
    pub(crate) fn end(&mut self) -> Result<(), WriteError> {
        let position = self.position();
        self.zeros(position.next_multiple_of(BLOCK) - position)
    }

    /// Gives back the space of data that nothing refers to any more.
    pub(crate) fn punch(&mut self, freed: &[Extent]) -> Result<(), WriteError> {
        self.flush()?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for extent in freed {
            let (offset, size) = (u64::from(extent.block) * BLOCK, extent.size);
            let punched =
                rustix::fs::fallocate(&self.file, flags, offset, size.next_multiple_of(BLOCK));
            match punched {
                Ok(()) => {}
                // A file system without holes keeps the data, and the image is only larger for it.
                Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
                Err(error) => return Err(self.failed("punch holes into")(error.into())),
            }
        }
        Ok(())
    }

    /// Writes what is gathered, which ends at a block boundary unless it is the very end.
    pub(crate) fn flush(&mut self) -> Result<(), WriteError> {
        let buffer = std::mem::take(&mut self.buffer);
        for (from, to) in stored_runs(&buffer) {
            self.write_at(&buffer[from..to], self.start + from as u64)?;
        }
        self.start += buffer.len() as u64;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    /// Writes outside the appended sequence: the superblock.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        self.file.write_all_at(bytes, offset).map_err(self.failed("write"))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> WriteError {
        let path = self.path.clone();
        move |source| WriteError::Io { doing, path, source }
    }
}

/// The stretches of a buffer that are not blocks of zeros.
fn stored_runs(buffer: &[u8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    for block in buffer.chunks(BLOCK as usize) {
        let end = at + block.len();
        if !is_zero(block) {
            match runs.last_mut() {
                Some(last) if last.1 == at => last.1 = end,
                _ => runs.push((at, end)),
            }
        }
        at = end;
    }
    runs
}

/// Whether these bytes are all zero; quick to say no, and a wide scan to say yes.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(SHORT_HOLE.len()).all(|chunk| chunk == &SHORT_HOLE[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn written(actions: impl FnOnce(&mut DataWriter)) -> (Vec<u8>, u64) {
        let file = tempfile::tempfile().unwrap();
        let mut writer = DataWriter::new(file.try_clone().unwrap(), Path::new("x"), 1 << 30);
        actions(&mut writer);
        writer.end().unwrap();
        writer.flush().unwrap();
        let end = writer.position();
        file.set_len(end).unwrap();
        let mut bytes = vec![0; end as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (bytes, file.metadata().unwrap().blocks() * 512)
    }

    #[test]
    fn files_start_at_block_boundaries() {
        let (bytes, _) = written(|writer| {
            assert_eq!(writer.begin(3).unwrap(), Extent { block: 1, size: 3 });
            writer.write(b"abc").unwrap();
            writer.end().unwrap();
            assert_eq!(writer.begin(1).unwrap(), Extent { block: 2, size: 1 });
            writer.write(b"d").unwrap();
        });
        assert_eq!(bytes.len(), 3 * 4096);
        assert_eq!((&bytes[4096..4099], &bytes[8192..8193]), (&b"abc"[..], &b"d"[..]));
    }

    #[test]
    fn zeros_take_no_space() {
        let (bytes, stored) = written(|writer| {
            writer.begin(64 << 20).unwrap();
            writer.write(b"x").unwrap();
            writer.zeros(32 << 20).unwrap();
            writer.write(&vec![0; (32 << 20) - 2]).unwrap();
            writer.write(b"y").unwrap();
        });
        assert_eq!(bytes.len() as u64, (64 << 20) + 4096);
        assert_eq!((bytes[4096], bytes[bytes.len() - 1]), (b'x', b'y'));
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 2);
        assert!(stored <= 64 << 10, "{stored}");
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused_before_it_is_written() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = DataWriter::new(file, Path::new("x"), 16 * 4096);
        assert!(writer.begin(15 * 4096).is_ok());
        for size in [15 * 4096 + 1, 1 << 40, u64::MAX] {
            assert!(matches!(writer.begin(size), Err(WriteError::TooBig { .. })));
        }
    }
}
