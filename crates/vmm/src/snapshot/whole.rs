//! The memory of a snapshot in one file that QEMU can map: made once, and shared by all that are restored
//! from it. Called by `frozen`, and by shims whose box was restored without it.
//!
//! Making it takes longer than the rest of a restore, because all of the template's memory is copied. So the
//! first VM gets what was captured written into its memory instead, and the file is made while it runs.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::process::setpriority_process;

use super::capture::room;
use super::delta::PAGE;
use super::frozen::{Seen, alone, write_down};
use super::{Layers, Paths, link};
use crate::cache;
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::host;
use crate::sparse;

/// The most pages that are written into a VM: what is written is in the memory of each VM, and what is mapped
/// is shared.
const LITTLE: usize = (64 << 20) / PAGE;
/// The most pieces a memory may be in: all its pages, each alone.
const MEMORY_EXTENTS: usize = 1 << 22;
/// How far others go before who makes it while a VM runs (setpriority(2)).
const LAST: i32 = 19;

/// A memory that later restores are to find whole.
#[derive(Debug)]
pub struct Unfinished {
    /// The snapshot's, whatever its name is by now, and whose that is.
    directory: Arc<File>,
    layers: Layers,
}

impl Layers {
    /// What it takes on the disk when it is whole, at most, in bytes.
    fn takes(&self) -> u64 {
        let base = self.base.metadata().map_or(0, |meta| meta.blocks() * 512);
        base + (self.captured() * PAGE) as u64
    }

    fn captured(&self) -> usize {
        self.deltas.iter().map(|delta| delta.count()).sum()
    }
}

impl Unfinished {
    pub(super) fn new(directory: &Arc<File>, layers: &Layers) -> Self {
        Unfinished { directory: directory.clone(), layers: layers.clone() }
    }

    /// Makes it on a thread of its own, behind everything else that is to be done. Nobody waits for that: when
    /// it fails, or this process ends, nothing is left, and the next restore does without it, too.
    pub fn make_behind(self) {
        let make = move || {
            // Without it, it is as important as others.
            let _ = setpriority_process(None, LAST);
            let _ = self.make();
        };
        // Without a thread there is nothing to be done.
        let _ = std::thread::Builder::new().name("memory".to_owned()).spawn(make);
    }

    /// Makes it, unless somebody is at work in the directory, or boxes would lack the room.
    pub(super) fn make(&self) -> Result<(), Error> {
        let paths = &self.paths();
        let _alone = alone_at_once(paths)?;
        if is_made(paths) {
            return Ok(());
        }
        remove_stale(paths);
        room(&paths.0, self.layers.takes())?;
        make_alone(paths, &self.layers).map(drop)
    }

    /// Makes it for who can't do without it.
    pub(super) fn make_now(&self) -> Result<File, Error> {
        make(&self.paths(), &self.layers)
    }

    fn paths(&self) -> Paths {
        Paths::of(Path::new(&format!("/proc/self/fd/{}", self.directory.as_raw_fd())))
    }
}

/// The memory as a whole, as it was made once, if it is still that.
pub(super) fn find(paths: &Paths, layers: &Layers) -> Result<Option<File>, Error> {
    if layers.deltas.is_empty() {
        return layers.base.try_clone().map(Some).map_err(Error::prepare("a memory"));
    }
    if !is_made(paths) {
        return Ok(None);
    }
    match File::open(path(paths)) {
        // It was deleted this moment, as something that can be made again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(Error::io("open", path(paths))),
    }
}

/// Whether a VM can do without it for now: there is little to write into it, and there will be room.
pub(super) fn can_wait(paths: &Paths, layers: &Layers) -> bool {
    if layers.captured() > LITTLE {
        return false;
    }
    if let Ok(_alone) = alone_at_once(paths) {
        remove_stale(paths);
    }
    room(&paths.0, layers.takes()).is_ok()
}

/// The memory as a whole, made now.
pub(super) fn make(paths: &Paths, layers: &Layers) -> Result<File, Error> {
    let _alone = alone(&paths.0)?;
    // Another may have made it meanwhile.
    match find(paths, layers)? {
        Some(made) => Ok(made),
        None => make_alone(paths, layers),
    }
}

fn path(paths: &Paths) -> std::path::PathBuf {
    paths.named("ram")
}

/// Who maps it can't write to it. Its name may be gone already, as that of something that can be made again.
fn read_only(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The boot of this host, and how the file looks.
fn is(paths: &Paths) -> Option<(String, Seen)> {
    Some((host::boot_id().ok()?, Seen::of(&path(paths)).ok()?))
}

fn is_made(paths: &Paths) -> bool {
    let made = cache::read_bounded(&paths.named("ram.made")).ok();
    let made = made.and_then(|bytes| serde_json::from_slice::<(String, Seen)>(&bytes).ok());
    made.is_some() && made == is(paths)
}

/// Nobody else makes anything in the directory while this is held; an error when somebody does.
fn alone_at_once(paths: &Paths) -> Result<File, Error> {
    let failed = || Error::io("lock", &paths.0);
    let lock = File::open(&paths.0).map_err(failed())?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|errno| failed()(errno.into()))?;
    Ok(lock)
}

/// Takes away, while nobody else makes one, a memory that was made for an earlier state, as every one was before
/// the host booted: it is of no use, and takes as much room as the one that is to be made.
fn remove_stale(paths: &Paths) {
    if !is_made(paths) {
        let _ = fs::remove_file(path(paths));
    }
}

/// Makes it while nobody else does. It has its name when it is whole, so that nobody maps half of it.
fn make_alone(paths: &Paths, layers: &Layers) -> Result<File, Error> {
    remove_stale(paths);
    let path = path(paths);
    let failed = || Error::io("write", &path);
    // Without a name it goes with whoever is killed. Not every file system can do that.
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let made = match openat(CWD, &paths.0, flags, Mode::from_raw_mode(0o644)).map(File::from) {
        Ok(unnamed) => {
            copy(&unnamed, layers).map_err(failed())?;
            failpoint("restore: memory made");
            link(&unnamed, &path).map_err(failed())?;
            unnamed
        }
        Err(_) => make_named(paths, layers, &path).map_err(failed())?,
    };
    failpoint("restore: memory named");
    if let Some(made) = is(paths) {
        // Without it the next one makes it again.
        let _ = write_down(paths, "ram.made", &made);
    }
    read_only(&made).map_err(failed())
}

/// Makes it under a name that nobody looks at.
fn make_named(paths: &Paths, layers: &Layers, path: &Path) -> io::Result<File> {
    let fresh = paths.named("ram.new");
    // Left by one that was killed.
    let _ = fs::remove_file(&fresh);
    let made = File::options().read(true).write(true).create_new(true).open(&fresh);
    let made = made.and_then(|file| copy(&file, layers).map(|()| file)).and_then(|file| {
        failpoint("restore: memory made");
        fs::rename(&fresh, path).map(|()| file)
    });
    made.inspect_err(|_| drop(fs::remove_file(&fresh)))
}

fn copy(file: &File, layers: &Layers) -> io::Result<()> {
    let length = layers.base.metadata()?.len();
    let extents = sparse::extents(&layers.base, MEMORY_EXTENTS)?;
    sparse::copy(&layers.base, &extents, file, length)?;
    layers.deltas.iter().try_for_each(|delta| delta.apply(file))
}
