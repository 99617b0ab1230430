//! Finds and opens the virtio-serial port that is the channel to the shim. Called by `main`.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::uevents::Uevents;
use crate::fault::{Fault, Step};

/// The port's name, given on QEMU's command line.
const NAME: &str = "box.0";

/// The driver learns of its ports from messages it exchanges with the host; on a busy host that
/// takes long under emulation. Whoever bakes has its own, shorter patience.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the port named [`NAME`], as soon as it exists.
pub(crate) fn open(uevents: &Uevents) -> Result<OwnedFd, Fault> {
    let node = uevents
        .wait_for(PATIENCE, || find(Path::new("/sys/class/virtio-ports"), Path::new("/dev")))
        .step("find the port box.0")?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(&node, flags, Mode::empty()).step_with(|| format!("open {}", node.display()))
}

/// The device node of the port, if the kernel shows both.
fn find(class: &Path, dev: &Path) -> Option<PathBuf> {
    fs::read_dir(class).ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        let node = dev.join(entry.file_name());
        (name.trim_end() == NAME && node.exists()).then_some(node)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_its_name_and_only_with_a_node() {
        let folder = tempfile::tempdir().unwrap();
        let (class, dev) = (folder.path().join("class"), folder.path().join("dev"));
        for (port, name) in [("vport0p0", "other\n"), ("vport0p1", "box.0\n")] {
            fs::create_dir_all(class.join(port)).unwrap();
            fs::write(class.join(port).join("name"), name).unwrap();
        }
        fs::create_dir(&dev).unwrap();
        assert_eq!(find(&class, &dev), None);
        fs::write(dev.join("vport0p1"), "").unwrap();
        assert_eq!(find(&class, &dev), Some(dev.join("vport0p1")));
    }
}
