//! Makes sure that the two disks are where the root file system will look for them. Called by
//! `main`.
//!
//! At bake time both are placeholders; nothing here reads them. Their pages are not in the cache
//! either: the kernel drops a disk's cache when its last opener leaves, and its look for partitions
//! was the last one. So a restored guest reads what the restored disks hold.

use std::fs;

use rustix::io::Errno;

use crate::fault::{Fault, Step};

/// The image of the box: read-only.
pub(crate) const IMAGE: &str = "/dev/vda";
/// What the box writes.
pub(crate) const DISK: &str = "/dev/vdb";

/// Checks that the first disk is the read-only one and the second one is not.
pub(crate) fn check() -> Result<(), Fault> {
    for (name, read_only) in [("vda", "1"), ("vdb", "0")] {
        let path = format!("/sys/block/{name}/ro");
        let found = fs::read_to_string(&path).step_with(|| format!("find the disk {name}"))?;
        if found.trim_end() != read_only {
            let step = format!("take {name} for what it should be: {path} is {}", found.trim_end());
            return Err(Fault::new(step, Errno::INVAL));
        }
    }
    Ok(())
}
