//! The pages of a VM's memory that are its own: written since QEMU mapped the memory of its template
//! (proc(5), `pagemap`). Called by `capture`, while the VM stands still.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::delta::{CHUNK, PAGE, runs};
use crate::sys;

/// Bits of an entry of `pagemap` (kernel documentation, admin-guide/mm/pagemap).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_A_FILE: u64 = 1 << 61;

/// Entries that are read at once.
const ENTRIES: usize = 16 << 10;

/// A process's mapping of a memory.
pub(crate) struct OwnMemory {
    pid: u32,
    pieces: Vec<Piece>,
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
        let mut places = Vec::with_capacity(CHUNK);
        for run in runs(pages) {
            let (start, length) = (u64::from(run[0]) * PAGE as u64, run.len() * PAGE);
            let piece = self.pieces.iter().find(|piece| {
                piece.offset <= start && start + length as u64 <= piece.offset + piece.length
            });
            let piece = piece.ok_or(io::ErrorKind::InvalidData)?;
            places.push((piece.address + (start - piece.offset), length));
        }
        sys::read_memory(self.pid, &places, &mut into[..pages.len() * PAGE])
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
