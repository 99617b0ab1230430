//! Whether a template's files are what its manifest says (contract S1). Called by `template`.
//!
//! A flipped byte in a state loads silently, so all is read when a template was made, at the first
//! use after the host booted, and whenever inode, size or a time of a file differs from what the
//! last check saw. Otherwise the stamp of that check is enough: hashing the memory at each start
//! would cost more than the start.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::Content;
use super::{Files, Template};
use crate::blocking::wanted;
use crate::cache;
use crate::host::{self, hex};

/// What is looked at as a whole: data, or nothing but zeros.
const CHUNK: u64 = 64 * 1024;
/// How much the host's clock may differ from what the guest was told, in parts per million. The
/// clock of a box drifts by that much.
const CLOCK_PPM: u64 = 200;

/// The verdict.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    Fit,
    Unfit(String),
}

/// What a check has seen, for later ones.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    boot_id: String,
    ram: Seen,
    state: Seen,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<Seen>,
    manifest: Seen,
}

/// What tells a file from what it becomes when somebody changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Seen {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Stamp {
    fn now(files: &Files, template: &Template) -> io::Result<Self> {
        Ok(Stamp {
            boot_id: host::boot_id()?,
            ram: Seen::of(&template.ram)?,
            state: Seen::of(&template.state)?,
            disk: template.disk.as_ref().map(Seen::of).transpose()?,
            manifest: Seen::of(&File::open(files.manifest())?)?,
        })
    }
}

/// Checks an open template: by its stamp, or all of it.
pub(super) fn check(files: &Files, template: &Template) -> Fitness {
    if !template.binding().engine.is_unchanged() {
        let engine = template.binding().engine.path().display();
        return Fitness::Unfit(format!("it was made with another {engine}"));
    }
    let result = Stamp::now(files, template).and_then(|now| {
        let stamps = places(files).into_iter().filter_map(|path| read_stamp(&path));
        if stamps.into_iter().any(|stamp| stamp == now) {
            return Ok(Fitness::Fit);
        }
        let fitness = check_fully(files, template)?;
        if fitness == Fitness::Fit {
            write_stamp(files, &now);
        }
        Ok(fitness)
    });
    result.unwrap_or_else(|error| Fitness::Unfit(format!("it can't be read: {error}")))
}

/// Whether there is a stamp that fits, without a further look.
pub(super) fn is_stamped(files: &Files) -> bool {
    let opened = super::Manifest::read(&files.manifest())
        .ok()
        .and_then(|manifest| Template::open(files, manifest).ok());
    let Some(now) = opened.and_then(|template| Stamp::now(files, &template).ok()) else {
        return false;
    };
    places(files).iter().any(|path| read_stamp(path).is_some_and(|stamp| stamp == now))
}

fn check_fully(files: &Files, template: &Template) -> io::Result<Fitness> {
    let manifest = &template.manifest;
    let disk = template.disk.as_ref().zip(manifest.disk.as_ref());
    let disk = disk.map(|(file, said)| ("disk", file, said));
    let parts =
        [("ram", &template.ram, &manifest.ram), ("state", &template.state, &manifest.state)];
    for (name, file, said) in parts.into_iter().chain(disk) {
        let bytes = file.metadata()?.len();
        if bytes != said.bytes {
            let said = said.bytes;
            return Ok(Fitness::Unfit(format!("its {name} has {bytes} bytes, not {said}")));
        }
        if content(file, Zeros::Leave)? != *said {
            return Ok(Fitness::Unfit(format!("its {name} is damaged")));
        }
    }
    let said = manifest.tsc_khz;
    let cache = files.cache.as_deref().unwrap_or(&files.dir);
    let is = host::tsc_khz(cache).map_err(io::Error::other)?;
    if is.abs_diff(said) * 1_000_000 > said * CLOCK_PPM {
        let reason = format!("the host's clock runs at {is} kHz, and it was made for {said} kHz");
        return Ok(Fitness::Unfit(reason));
    }
    Ok(Fitness::Fit)
}

/// What becomes of chunks that are all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeros {
    Leave,
    /// They become holes, which take no space and no time to read. The file must be writable.
    Punch,
}

/// Length and digest of a file. The digest is over the chunks that are not all zeros, each after its
/// offset; so it does not depend on which zeros are holes.
pub(crate) fn content(file: &File, zeros: Zeros) -> io::Result<Content> {
    let bytes = file.metadata()?.len();
    // A handle of our own, as its position is moved.
    let mut reader =
        File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK as usize];
    let mut at = 0;
    while let Some(data) = next_data(&reader, at)? {
        wanted()?;
        // From the beginning of the chunk the data is in.
        let start = data - data % CHUNK;
        let chunk = &mut buffer[..CHUNK.min(bytes.saturating_sub(start)) as usize];
        reader.seek(io::SeekFrom::Start(start))?;
        reader.read_exact(chunk)?;
        at = start + CHUNK;
        if chunk.iter().any(|byte| *byte != 0) {
            digest.update(start.to_le_bytes());
            digest.update(&*chunk);
        } else if zeros == Zeros::Punch {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(file, punch, start, chunk.len() as u64)?;
        }
    }
    Ok(Content { bytes, sha256: hex(&digest.finalize()) })
}

/// Where the next data is, from `at` on.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Where a stamp may be: with the template, or with the user who may not write there.
fn places(files: &Files) -> Vec<PathBuf> {
    let own = files.cache.as_ref().map(|cache| cache.join(format!("verified-{}", files.key)));
    [Some(files.dir.join("verified")), own].into_iter().flatten().collect()
}

fn read_stamp(path: &std::path::Path) -> Option<Stamp> {
    serde_json::from_slice(&cache::read_bounded(path).ok()?).ok()
}

/// Without a place to write to, all is read again next time, which is right.
fn write_stamp(files: &Files, stamp: &Stamp) {
    for path in places(files) {
        if let Some(parent) = path.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        if cache::replace(&path, stamp).is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
