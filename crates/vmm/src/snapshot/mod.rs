//! Snapshots: a VM that ran, in a directory. A shim captures its VM into one ([`Vm::capture`](crate::Vm::capture)), the
//! runtime seals it ([`seal`]) and checks it ([`Frozen::open`]), and shims restore it.
//!
//! ```text
//! DIR/state          vCPUs and devices
//! DIR/base           the memory of the template that it all began with, a link to it
//! DIR/pages.N        what differs from that, the oldest first; links but for the last
//! DIR/disk.N         the layers of the disk, the lowest first; links
//! DIR/sketch.json    what it was captured with
//! DIR/manifest.json  digests of all of these, and DIR/manifest.sha256 one of that
//! DIR/ram            the memory as a whole, made at the first restore or behind it
//! DIR/verified       that all was checked, and how the files looked then
//! ```
//!
//! Of a disk alone, there are its layers and the manifest.
//!
//! Nothing here is ever changed but `ram` and `verified`, which can be made again. So files are shared by
//! links, and the file system counts who still needs them.

mod archive;
pub(crate) mod capture;
mod delta;
mod frozen;
mod own;
mod seal;
mod whole;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, linkat};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sparse;
use crate::template::{Binding, Content};

pub use archive::{export, import, is_foreign};
pub use capture::{CaptureRequest, Captured, DiskSwitch};
pub use frozen::Frozen;
pub use seal::seal;
pub use whole::Unfinished;

pub(crate) use delta::Delta;
pub(crate) use own::FreshMemory;

/// Counts changes of the files' format.
const FORMAT: u32 = 1;

/// The most captures that one memory may be spread over.
pub(crate) const MAX_DELTAS: usize = 64;

/// What of a VM is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its memory, its devices and its disk.
    Everything,
    /// Its disk.
    Disk,
}

/// The memory of a VM, as far as it is in files.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    /// What it all began with: a template's.
    pub(crate) base: Arc<File>,
    pub(crate) base_content: Content,
    /// What was captured since, the oldest first.
    pub(crate) deltas: Vec<Arc<Delta>>,
    /// How many of them are in what QEMU has mapped.
    pub(crate) mapped: usize,
}

/// What a capture knows without reading anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sketch {
    pub(crate) format: u32,
    pub(crate) binding: Binding,
    pub(crate) tsc_khz: u64,
    /// What the guest was given to keep, in hexadecimal.
    pub(crate) mark: String,
    pub(crate) base: Content,
    pub(crate) deltas: usize,
}

/// The file that says what a memory is.
const SKETCH: &str = "sketch.json";

/// The paths in a snapshot's directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths(PathBuf);

impl Paths {
    pub(crate) fn of(dir: &Path) -> Self {
        Paths(dir.to_owned())
    }

    fn named(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn delta(&self, number: usize) -> PathBuf {
        self.named(&format!("pages.{number}"))
    }

    /// The names of the layers of the disk.
    fn disk_names(&self) -> Vec<String> {
        let there = |name: &String| self.named(name).exists();
        (0..).map(|number| format!("disk.{number}")).take_while(there).collect()
    }
}

/// Where a snapshot's directory has a layer of the disk.
pub fn layer(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("disk.{number}"))
}

/// Gives the layers of a disk, the lowest first, to a snapshot's directory.
///
/// # Errors
/// With the path that could not be made, and why.
pub fn link_layers(layers: &[PathBuf], dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    for (number, path) in layers.iter().enumerate() {
        let to = layer(dir, number);
        let linked = File::open(path).and_then(|file| link_or_copy(&file, &to));
        linked.map_err(|error| (to, error))?;
    }
    Ok(())
}

/// Gives an open file that nobody changes another name, or makes a copy where that can't be.
///
/// # Errors
/// When neither can be.
pub fn link_or_copy(file: &File, path: &Path) -> io::Result<()> {
    if link(file, path).is_ok() {
        return Ok(());
    }
    // It was deleted, is on another file system, or is somebody else's.
    let copy = File::options().read(true).write(true).create_new(true).open(path)?;
    let extents = sparse::extents(file, 1 << 22)?;
    sparse::copy(file, &extents, &copy, file.metadata()?.len())
}

/// Gives an open file another name.
fn link(file: &File, path: &Path) -> io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Gives what a memory is restored from to another directory, which is made: so a box needs nothing of where
/// it was captured to.
///
/// # Errors
/// With the path that could not be made, and why.
pub fn lend_memory(from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
    let made = fs::create_dir(to).and_then(|()| fs::read_dir(from));
    let entries = made.map_err(|error| (to.to_owned(), error))?;
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let memory = ["state", "base", SKETCH, "ram", "ram.made"].contains(&name.as_str());
        if memory || name.starts_with("pages.") {
            let path = to.join(&name);
            let linked = File::open(from.join(&name)).and_then(|file| link_or_copy(&file, &path));
            linked.map_err(|error| (path, error))?;
        }
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::io("read", path)(error.into()))
}

#[cfg(test)]
mod tests;
