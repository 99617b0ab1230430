//! The pages of a VM's memory that are its own: written since QEMU mapped the memory of its template
//! (proc(5), `pagemap`). Called by `capture`, while the VM stands still, and by `restore`, which writes what
//! was captured before the VM has run.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::delta::{CHUNK, Delta, PAGE, Share, runs};
use crate::sys;

/// Bits of an entry of `pagemap` (kernel documentation, admin-guide/mm/pagemap).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_A_FILE: u64 = 1 << 61;

/// The most threads that write at once.
const WRITERS: usize = 2;
/// Entries that are read at once.
const ENTRIES: usize = 16 << 10;

/// A process's mapping of a memory.
pub(crate) struct OwnMemory {
    pid: u32,
    pieces: Vec<Piece>,
}

/// The same of a process that has not used it yet, to be written to.
pub(crate) struct FreshMemory {
    places: OwnMemory,
    bytes: File,
}

/// A part of a memory, in one piece of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    address: u64,
    /// Where in the memory it begins.
    offset: u64,
    length: u64,
}

impl OwnMemory {
    /// Where this process has mapped that file.
    ///
    /// # Errors
    /// When the process may not be looked at, or has not mapped all of it.
    pub(crate) fn find(pid: u32, ram: &File) -> io::Result<Self> {
        let meta = ram.metadata()?;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let pieces = pieces(&maps, meta.ino());
        let mapped: u64 = pieces.iter().map(|piece| piece.length).sum();
        if mapped != meta.len() {
            let what = format!("it has mapped {mapped} of {} bytes", meta.len());
            return Err(io::Error::other(what));
        }
        Ok(OwnMemory { pid, pieces })
    }

    /// The numbers of the process's own pages, rising.
    pub(crate) fn own(&self) -> io::Result<Vec<u32>> {
        let pagemap = File::open(format!("/proc/{}/pagemap", self.pid))?;
        let mut own = Vec::new();
        let mut entries = vec![0; ENTRIES * 8];
        for piece in &self.pieces {
            let (first, count) = (piece.address / PAGE as u64, piece.length / PAGE as u64);
            let mut done = 0;
            while done < count {
                let part = (count - done).min(ENTRIES as u64);
                let bytes = &mut entries[..part as usize * 8];
                pagemap.read_exact_at(bytes, (first + done) * 8)?;
                let number = (piece.offset / PAGE as u64 + done) as u32;
                let entries = bytes.chunks_exact(8).zip(number..);
                own.extend(entries.filter_map(|(entry, number)| is_own(entry).then_some(number)));
                done += part;
            }
        }
        own.sort_unstable();
        Ok(own)
    }

    /// Reads pages, at most [`CHUNK`], one behind the other.
    pub(crate) fn read(&self, pages: &[u32], into: &mut [u8]) -> io::Result<()> {
        sys::read_memory(self.pid, &self.places(pages)?, &mut into[..pages.len() * PAGE])
    }

    /// Where pages are in the process, those that follow each other together.
    fn places(&self, pages: &[u32]) -> io::Result<Vec<(u64, usize)>> {
        let place = |run: &[u32]| {
            let (start, length) = (u64::from(run[0]) * PAGE as u64, run.len() * PAGE);
            let piece = self.pieces.iter().find(|piece| {
                piece.offset <= start && start + length as u64 <= piece.offset + piece.length
            });
            let piece = piece.ok_or(io::ErrorKind::InvalidData)?;
            Ok((piece.address + (start - piece.offset), length))
        };
        runs(pages).map(place).collect()
    }
}

impl FreshMemory {
    /// Where this process, of which nobody knows yet, has mapped that file.
    ///
    /// # Errors
    /// As for [`OwnMemory::find`].
    pub(crate) fn find(pid: u32, ram: &File) -> io::Result<Self> {
        // This is the process's memory, whoever has its number later.
        let bytes = File::options().write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(FreshMemory { places: OwnMemory::find(pid, ram)?, bytes })
    }

    /// Writes all that was captured, the oldest first: those pages are the process's own from then on.
    pub(crate) fn write(&self, deltas: &[Arc<Delta>]) -> io::Result<()> {
        deltas.iter().try_for_each(|delta| self.write_one(delta))
    }

    /// The kernel takes a fresh page for each, which is most of the work; so several threads do it.
    fn write_one(&self, delta: &Delta) -> io::Result<()> {
        let count = delta.count().div_ceil(CHUNK).clamp(1, WRITERS);
        let write =
            |first| delta.each(Share { first, of: count }, |pages, bytes| self.put(pages, bytes));
        std::thread::scope(|scope| {
            let spawn = |first| {
                let builder = std::thread::Builder::new().name("memory".to_owned());
                builder.spawn_scoped(scope, move || write(first))
            };
            let others = (1..count).map(spawn).collect::<io::Result<Vec<_>>>()?;
            let own = write(0);
            let failed = |_| Err(io::Error::other("a thread has failed"));
            others.into_iter().try_for_each(|other| other.join().unwrap_or_else(failed)).and(own)
        })
    }

    fn put(&self, pages: &[u32], bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        for (address, length) in self.places.places(pages)? {
            self.bytes.write_all_at(&bytes[done..done + length], address)?;
            done += length;
        }
        Ok(())
    }
}

fn is_own(entry: &[u8]) -> bool {
    let entry = u64::from_le_bytes(std::array::from_fn(|i| entry[i]));
    entry & (PRESENT | SWAPPED) != 0 && entry & OF_A_FILE == 0
}

/// The mappings of an inode in the text of `/proc/PID/maps`.
fn pieces(maps: &str, inode: u64) -> Vec<Piece> {
    let piece = |line: &str| -> Option<Piece> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (start, end) =
            (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let is = fields.nth(1)?.parse::<u64>().ok()?;
        (is == inode).then_some(Piece { address: start, offset, length: end.checked_sub(start)? })
    };
    maps.lines().filter_map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::super::delta::DeltaWriter;
    use super::*;

    #[test]
    fn mappings_are_read_as_linux_prints_them() {
        let maps = "7f080bfff000-7f082bfff000 rw-p 00000000 fe:00 10118041      /x y/ram\n\
                    7f082bfff000-7f082c000000 rw-p 20000000 fe:00 10118041      /x y/ram\n\
                    7f082c000000-7f082c001000 rw-p 00000000 00:00 0 \n";
        let found = pieces(maps, 10_118_041);
        let first = Piece { address: 0x7f08_0bff_f000, offset: 0, length: 512 << 20 };
        assert_eq!(found[0], first);
        assert_eq!((found.len(), found[1].offset), (2, 0x2000_0000));
    }

    #[test]
    fn s1_what_was_captured_is_written_where_it_belongs_and_the_file_stays() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 8 * PAGE], 0).unwrap();
        let mapping = crate::sys::tests::map_private(&file, 8 * PAGE);
        let delta = |pages: &[u32], byte: u8| {
            let file = tempfile::tempfile().unwrap();
            let mut writer = DeltaWriter::new(&file);
            writer.add(pages, &vec![byte; pages.len() * PAGE]).unwrap();
            writer.finish().unwrap();
            Arc::new(Delta::open(file, 8).unwrap())
        };
        let pid = std::process::id();
        FreshMemory::find(pid, &file)
            .unwrap()
            .write(&[delta(&[1, 2, 6], 5), delta(&[2, 3], 7)])
            .unwrap();
        let firsts: Vec<u8> = mapping.chunks(PAGE).map(|page| page[9]).collect();
        assert_eq!(firsts, [1, 5, 7, 7, 1, 1, 5, 1]);
        assert_eq!(OwnMemory::find(pid, &file).unwrap().own().unwrap(), [1, 2, 3, 6]);
        let mut whole = vec![0; 8 * PAGE];
        file.read_exact_at(&mut whole, 0).unwrap();
        assert!(whole.iter().all(|byte| *byte == 1));
    }

    #[test]
    fn s2_what_was_written_to_a_private_mapping_is_its_own_and_read_alone_is_not() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 8 * PAGE], 0).unwrap();
        let mapping = crate::sys::tests::map_private(&file, 8 * PAGE);
        let mut seen = mapping[PAGE];
        for page in [2, 3, 7] {
            mapping[page * PAGE + 5] = 9;
            seen += mapping[page * PAGE];
        }
        assert_eq!(seen, 4);
        let memory = OwnMemory::find(std::process::id(), &file).unwrap();
        let own = memory.own().unwrap();
        assert_eq!(own, [2, 3, 7]);
        let mut bytes = vec![0; 3 * PAGE];
        memory.read(&own, &mut bytes).unwrap();
        assert!(bytes.chunks(PAGE).all(|page| page[5] == 9 && page[6] == 1));
    }
}
