//! The pages of a memory that differ from what they were before: how a capture is stored. Written by
//! `capture`, read by `frozen`.
//!
//! ```text
//! the pages, 4 KiB each      in the order of their numbers
//! their numbers, u32 each    rising
//! magic, u32 version, u32 page size, u64 count
//! ```
//!
//! Numbers are little-endian. Pages lie where their place in the index says, so one is found without
//! reading the others.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a page (x86-64).
pub(crate) const PAGE: usize = 4096;
/// Pages that are moved at once.
pub(crate) const CHUNK: usize = 256;

const MAGIC: [u8; 8] = *b"bxwpages";
const VERSION: u32 = 1;
const FOOTER: usize = 24;

/// Pages, open for reading.
#[derive(Debug)]
pub(crate) struct Delta {
    file: File,
    pages: Vec<u32>,
}

/// Every n-th chunk, for who shares them with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) first: usize,
    pub(crate) of: usize,
}

impl Share {
    pub(crate) const ALL: Share = Share { first: 0, of: 1 };
}

/// Pages that are being written.
pub(crate) struct DeltaWriter<'a> {
    file: &'a File,
    pages: Vec<u32>,
    at: u64,
}

impl<'a> DeltaWriter<'a> {
    /// Into an empty file.
    pub(crate) fn new(file: &'a File) -> Self {
        DeltaWriter { file, pages: Vec::new(), at: 0 }
    }

    /// Adds pages with numbers above all that were added before; `bytes` are theirs.
    pub(crate) fn add(&mut self, pages: &[u32], bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.pages.extend_from_slice(pages);
        Ok(())
    }

    /// Writes the index.
    pub(crate) fn finish(self) -> io::Result<Vec<u32>> {
        let mut end: Vec<u8> = self.pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        end.extend(MAGIC);
        end.extend(VERSION.to_le_bytes());
        end.extend((PAGE as u32).to_le_bytes());
        end.extend((self.pages.len() as u64).to_le_bytes());
        self.file.write_all_at(&end, self.at)?;
        Ok(self.pages)
    }
}

impl Delta {
    /// One that was just written.
    pub(crate) fn written(file: File, pages: Vec<u32>) -> Self {
        Delta { file, pages }
    }

    /// Reads the index of a file, for a memory of so many pages.
    ///
    /// # Errors
    /// When it is no such file. What the pages hold is for its digest to say.
    pub(crate) fn open(file: File, memory_pages: u64) -> io::Result<Self> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is no list of pages");
        let length = file.metadata()?.len();
        let mut footer = [0; FOOTER];
        let footer_at = length.checked_sub(FOOTER as u64).ok_or_else(damaged)?;
        file.read_exact_at(&mut footer, footer_at)?;
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| footer[at + i]));
        let count = u64::from_le_bytes(std::array::from_fn(|i| footer[16 + i]));
        let fits = footer[..8] == MAGIC
            && (u32_at(8), u32_at(12)) == (VERSION, PAGE as u32)
            && count <= memory_pages
            && length == count * (PAGE as u64 + 4) + FOOTER as u64;
        if !fits {
            return Err(damaged());
        }
        let mut index = vec![0; count as usize * 4];
        file.read_exact_at(&mut index, count * PAGE as u64)?;
        let number = |bytes: &[u8]| u32::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        let pages: Vec<u32> = index.chunks_exact(4).map(number).collect();
        let rise = pages.windows(2).all(|pair| pair[0] < pair[1]);
        if !rise || pages.last().is_some_and(|last| u64::from(*last) >= memory_pages) {
            return Err(damaged());
        }
        Ok(Delta { file, pages })
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Reads one page, if it has it.
    pub(crate) fn read(&self, page: u32, into: &mut [u8]) -> io::Result<bool> {
        let Ok(place) = self.pages.binary_search(&page) else { return Ok(false) };
        self.file.read_exact_at(into, (place * PAGE) as u64)?;
        Ok(true)
    }

    /// How many pages it has.
    pub(crate) fn count(&self) -> usize {
        self.pages.len()
    }

    /// Reads its pages, [`CHUNK`] at a time: their numbers and their bytes.
    pub(crate) fn each(
        &self,
        share: Share,
        mut take: impl FnMut(&[u32], &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK.min(self.pages.len()) * PAGE];
        let chunks = self.pages.chunks(CHUNK).enumerate();
        for (number, pages) in chunks.skip(share.first).step_by(share.of) {
            let bytes = &mut buffer[..pages.len() * PAGE];
            self.file.read_exact_at(bytes, (number * CHUNK * PAGE) as u64)?;
            take(pages, bytes)?;
        }
        Ok(())
    }

    /// Writes all its pages to where they belong in a memory.
    pub(crate) fn apply(&self, memory: &File) -> io::Result<()> {
        self.each(Share::ALL, |pages, bytes| {
            let mut done = 0;
            for run in runs(pages) {
                let bytes = &bytes[done * PAGE..(done + run.len()) * PAGE];
                memory.write_all_at(bytes, u64::from(run[0]) * PAGE as u64)?;
                done += run.len();
            }
            Ok(())
        })
    }
}

/// Pages that follow each other, together.
pub(crate) fn runs(pages: &[u32]) -> impl Iterator<Item = &[u32]> {
    pages.chunk_by(|one, next| one + 1 == *next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(pages: &[u32]) -> File {
        let file = tempfile::tempfile().unwrap();
        let mut writer = DeltaWriter::new(&file);
        for page in pages {
            writer.add(&[*page], &[*page as u8; PAGE]).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    #[test]
    fn s2_pages_are_found_and_put_where_they_belong() {
        let pages: Vec<u32> = (0..600).filter(|page| page % 7 < 3).collect();
        let delta = Delta::open(delta(&pages), 1000).unwrap();
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(1000 * PAGE as u64).unwrap();
        delta.apply(&memory).unwrap();
        let (mut one, mut other) = ([0; PAGE], [0; PAGE]);
        for page in 0..1000 {
            memory.read_exact_at(&mut one, u64::from(page) * PAGE as u64).unwrap();
            let has = delta.read(page, &mut other).unwrap();
            assert_eq!(has, pages.contains(&page));
            assert_eq!(one, [if has { page as u8 } else { 0 }; PAGE], "{page}");
        }
    }

    #[test]
    fn s1_what_is_no_list_of_pages_of_this_memory_is_refused() {
        assert!(Delta::open(delta(&[]), 0).is_ok());
        assert!(Delta::open(delta(&[3, 9]), 10).is_ok());
        assert!(Delta::open(delta(&[3, 10]), 10).is_err());
        assert!(Delta::open(delta(&[9, 3]), 10).is_err());
        assert!(Delta::open(delta(&[1, 2, 3]), 2).is_err());
        let cut = delta(&[3, 9]);
        cut.set_len(cut.metadata().unwrap().len() - 1).unwrap();
        assert!(Delta::open(cut, 10).is_err());
        assert!(Delta::open(tempfile::tempfile().unwrap(), 10).is_err());
    }
}
