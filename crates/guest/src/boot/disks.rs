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
const NAMES: [&str; 2] = ["vda", "vdb"];

/// Settings of a disk's queue. The host schedules; here that is code to be run for nothing.
const QUEUE: [(&str, &str); 3] = [("scheduler", "none"), ("wbt_lat_usec", "0"), ("iostats", "0")];

/// How far ahead the image is read, in KiB. Four times the kernel's default saves a third of the
/// requests of a program's start, each of which costs more than the pages it brings; more than this
/// saves little. (Measured: busybox 22 requests to 12, Python 238 to 156.)
const IMAGE_READ_AHEAD: &str = "512";

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
        for (flag, name) in flags.iter_mut().zip(NAMES) {
            let path = format!("/sys/block/{name}/ro");
            let text = fs::read_to_string(&path).step_with(|| format!("read {path}"))?;
            *flag = text.trim_end() == "1";
        }
        Self::from_flags(flags)
    }

    /// Takes everything out of the way of their requests that can be.
    pub(crate) fn tune(&self) -> Result<(), Fault> {
        for name in NAMES {
            for (setting, value) in QUEUE {
                tune(name, setting, value)?;
            }
        }
        let image = if self.image.ends_with(NAMES[0]) { NAMES[0] } else { NAMES[1] };
        tune(image, "read_ahead_kb", IMAGE_READ_AHEAD)
    }

    fn from_flags(read_only: [bool; 2]) -> Result<Self, Fault> {
        match read_only {
            [true, false] => Ok(Disks { image: "/dev/vda", disk: "/dev/vdb" }),
            [false, true] => Ok(Disks { image: "/dev/vdb", disk: "/dev/vda" }),
            _ => Err(Fault::new(
                "tell image and disk apart: one of vda and vdb must be read-only",
                Errno::INVAL,
            )),
        }
    }
}

/// Changes a setting of a disk's queue. Not every kernel has every one of them.
fn tune(name: &str, setting: &str, value: &str) -> Result<(), Fault> {
    let path = format!("/sys/block/{name}/queue/{setting}");
    match fs::write(&path, value) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        written => written.step_with(|| format!("write {path}")),
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
