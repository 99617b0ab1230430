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
}
