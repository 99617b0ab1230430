//! The disk that a box writes to: a raw file, or an overlay of layers that nobody changes any more. Made by
//! shims and by `template`, used by `launch`; a capture turns the disk of a running box into a layer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::command::BOX_DISK_BYTES;

/// A box's disk.
#[derive(Debug)]
pub struct Disk {
    /// What the box writes to, opened for reading and writing: raw, or an overlay if there is anything
    /// below it.
    pub top: File,
    /// What shows through where the top has nothing, opened read-only, the lowest first: raw, then
    /// overlays. At most [`MAX_LAYERS`](crate::MAX_LAYERS).
    pub below: Vec<File>,
}

impl Disk {
    /// A raw file with nothing below it.
    pub fn raw(top: File) -> Self {
        Disk { top, below: Vec::new() }
    }
}

/// Bytes of a cluster, qcow2's unit of allocation.
const CLUSTER: u64 = 64 << 10;
const CLUSTER_BITS: u32 = 16;

/// Makes an empty file an empty overlay of a box's disk: qcow2, version 3, as QEMU's
/// `docs/interop/qcow2.txt` describes it. It names no file below it: QEMU is told which.
///
/// # Errors
/// When it can't be written.
pub fn make_overlay(file: &File) -> io::Result<()> {
    // Cluster 0 is the header, 1 the table of reference counts, 2 the counts, 3 the L1 table.
    let (refcount_table, refcounts, l1) = (CLUSTER, 2 * CLUSTER, 3 * CLUSTER);
    let clusters = 4;
    // An L2 table is a cluster of 8-byte entries.
    let l1_entries = BOX_DISK_BYTES.div_ceil(CLUSTER * (CLUSTER / 8));
    let mut header = Vec::with_capacity(112);
    let long = |value: u64, header: &mut Vec<u8>| header.extend(value.to_be_bytes());
    let short = |value: u32, header: &mut Vec<u8>| header.extend(value.to_be_bytes());
    header.extend(b"QFI\xfb");
    short(3, &mut header);
    long(0, &mut header); // no name of a file below
    short(0, &mut header);
    short(CLUSTER_BITS, &mut header);
    long(BOX_DISK_BYTES, &mut header);
    short(0, &mut header); // not encrypted
    short(l1_entries as u32, &mut header);
    long(l1, &mut header);
    long(refcount_table, &mut header);
    short(1, &mut header); // clusters of the table
    short(0, &mut header); // no snapshots inside
    long(0, &mut header);
    for _features in 0..3 {
        long(0, &mut header);
    }
    short(4, &mut header); // counts of 2^4 bits
    short(104, &mut header); // bytes of this header
    long(0, &mut header); // the end of its extensions
    file.write_all_at(&header, 0)?;
    file.write_all_at(&refcounts.to_be_bytes(), refcount_table)?;
    file.write_all_at(&1u16.to_be_bytes().repeat(clusters), refcounts)?;
    file.set_len(clusters as u64 * CLUSTER)
}

/// Whether a file is an overlay as [`make_overlay`] makes them and QEMU fills them: of a box's disk, naming
/// no other file, with nothing in it that this build does not know.
///
/// # Errors
/// When it can't be read.
pub(crate) fn is_plain_overlay(file: &File) -> io::Result<bool> {
    let mut header = [0; 112];
    if file.metadata()?.len() < header.len() as u64 {
        return Ok(false);
    }
    file.read_exact_at(&mut header, 0)?;
    let short = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| header[at + i]));
    let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| header[at + i]));
    let backing = (long(8), short(16));
    let (encrypted, snapshots) = (short(32), short(60));
    let (incompatible, autoclear) = (long(72), long(88));
    let extension = short(104);
    Ok(header[..8] == *b"QFI\xfb\0\0\0\x03"
        && (backing, short(20), long(24)) == ((0, 0), CLUSTER_BITS, BOX_DISK_BYTES)
        && (encrypted, snapshots, incompatible, autoclear) == (0, 0, 0, 0)
        && (short(100), extension) == (104, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn s3_an_empty_overlay_takes_next_to_nothing() {
        let file = tempfile::tempfile().unwrap();
        make_overlay(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 256 << 10);
        assert!(file.metadata().unwrap().blocks() * 512 <= 16 << 10);
    }

    #[test]
    fn s1_an_overlay_that_names_another_file_is_none_of_ours() {
        let file = tempfile::tempfile().unwrap();
        assert!(!is_plain_overlay(&file).unwrap());
        make_overlay(&file).unwrap();
        assert!(is_plain_overlay(&file).unwrap());
        // Magic, version, backing file, size, encryption, snapshots, features, an extension.
        for at in [0, 7, 15, 19, 31, 35, 63, 79, 95, 103, 107] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            assert!(!is_plain_overlay(&file).unwrap(), "{at}");
            file.write_all_at(&byte, at).unwrap();
        }
    }
}
