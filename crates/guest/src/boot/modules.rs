//! Loads the kernel modules the initramfs brings, in the order of their names. Called by `main`.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;

use crate::fault::{Fault, Step};

/// What modules are told that would waste memory otherwise. A disk keeps a request of half a KiB for each
/// place in its queue, and QEMU's queues have 1,024.
const PARAMETERS: [(&str, &CStr); 1] = [("virtio_blk", c"queue_depth=64")];

/// Loads every module in `folder`, and deletes its file: the initramfs is memory.
pub(crate) fn load_all(folder: &Path) -> Result<(), Fault> {
    let entries = std::fs::read_dir(folder).step_with(|| format!("read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let file = File::open(&path).step_with(|| format!("open {}", path.display()))?;
        match rustix::system::finit_module(&file, parameters(&path), 0) {
            // A kernel may have it built in although its package names it.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno).step_with(|| format!("load {}", path.display())),
        }
        std::fs::remove_file(&path).step_with(|| format!("delete {}", path.display()))?;
    }
    Ok(())
}

fn parameters(module: &Path) -> &'static CStr {
    let name = module.file_stem().unwrap_or_default().to_string_lossy();
    PARAMETERS.iter().find(|(of, _)| name.ends_with(of)).map_or(c"", |(_, parameters)| parameters)
}
