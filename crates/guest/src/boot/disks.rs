//! Tells the two disks apart: the image is the read-only one, whatever order the kernel met them in.
//! Called by `main`; `rootfs` mounts what this found.
//!
//! At bake time both are placeholders; nothing here reads them. Their pages are not in the cache
//! either: the kernel drops a disk's cache when its last opener leaves, and its look for partitions
//! was the last one. So a restored guest reads what the restored disks hold.

use std::fs;

use rustix::io::Errno;

use crate::fault::{Fault, Step};

/// The block devices a box has.
const NAMES: [(&str, &str); 2] =
    [("/sys/block/vda/ro", "/dev/vda"), ("/sys/block/vdb/ro", "/dev/vdb")];

/// Settings of a disk's queue. The host schedules; here that is code to be run for nothing.
const QUEUE: [(&str, &str); 3] = [("scheduler", "none"), ("wbt_lat_usec", "0"), ("iostats", "0")];

/// Where the disks are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Disks {
    /// The image of the box: read-only.
    pub(crate) image: &'static str,
    /// What the box writes.
    pub(crate) disk: &'static str,
}

impl Disks {
    /// Asks the kernel.
    pub(crate) fn find() -> Result<Self, Fault> {
        let mut flags = [false; 2];
        for (flag, (path, _)) in flags.iter_mut().zip(NAMES) {
            let text = fs::read_to_string(path).step_with(|| format!("read {path}"))?;
            *flag = text.trim_end() == "1";
        }
        Self::from_flags(flags)
    }

    /// Takes everything out of the way of their requests that can be.
    pub(crate) fn tune(&self) -> Result<(), Fault> {
        for name in ["vda", "vdb"] {
            for (setting, value) in QUEUE {
                let path = format!("/sys/block/{name}/queue/{setting}");
                match fs::write(&path, value) {
                    // Not every kernel has every one of them.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    written => written.step_with(|| format!("write {path}"))?,
                }
            }
        }
        Ok(())
    }

    fn from_flags(read_only: [bool; 2]) -> Result<Self, Fault> {
        let [(_, first), (_, second)] = NAMES;
        match read_only {
            [true, false] => Ok(Disks { image: first, disk: second }),
            [false, true] => Ok(Disks { image: second, disk: first }),
            _ => Err(Fault::new(
                "tell image and disk apart: one of vda and vdb must be read-only",
                Errno::INVAL,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_only_disk_is_the_image_wherever_it_is() {
        let found = |flags| Disks::from_flags(flags).map(|disks| (disks.image, disks.disk)).ok();
        assert_eq!(found([true, false]), Some(("/dev/vda", "/dev/vdb")));
        assert_eq!(found([false, true]), Some(("/dev/vdb", "/dev/vda")));
        assert_eq!(found([true, true]), None);
        assert_eq!(found([false, false]), None);
    }
}
