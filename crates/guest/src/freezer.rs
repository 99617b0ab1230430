//! Lets the box's processes stand still, and go on: with the freezer of their cgroups, as Docker's
//! `pause` does. Called by `hold`, so that nothing of a box runs between a capture and its rebirth
//! (contract G10).
//!
//! All cgroups below the topmost are meant, also those that root in the box has made. Root that makes them
//! writable can move a process into the topmost one, where PID 1 is: that one can't be stopped this way, and
//! runs on.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::cgroup::Cgroups;

/// How long processes may take to come to where they can stand still.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read of `cgroup.events`: two short lines.
const EVENTS: usize = 256;

/// Cgroups whose processes stand still.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    folders: Vec<OwnedFd>,
}

impl Frozen {
    /// Stops all of them, and waits until they stand still.
    ///
    /// # Errors
    /// When they don't; then all of them go on.
    pub(crate) fn all(cgroups: &Cgroups) -> Result<Frozen, String> {
        let mut frozen = Frozen::default();
        let stopped = frozen.stop(cgroups).and_then(|()| frozen.wait(Instant::now() + PATIENCE));
        match stopped {
            Ok(()) => Ok(frozen),
            Err(errno) => {
                frozen.go_on();
                Err(format!("its processes do not stand still: {errno}"))
            }
        }
    }

    /// Lets them go on.
    pub(crate) fn go_on(self) {
        for folder in &self.folders {
            // One that was removed has nothing in it.
            let _ = write(folder, b"0");
        }
    }

    fn stop(&mut self, cgroups: &Cgroups) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = rustix::fs::openat(cgroups.folder(), c".", flags, Mode::empty())?;
        for entry in Dir::new(top)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type() != FileType::Directory || name.to_bytes().starts_with(b".") {
                continue;
            }
            let opened = rustix::fs::openat(cgroups.folder(), name, flags, Mode::empty());
            let stopped = opened.and_then(|folder| write(&folder, b"1").map(|()| folder));
            match stopped {
                Ok(folder) => self.folders.push(folder),
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn wait(&self, deadline: Instant) -> Result<(), Errno> {
        self.folders.iter().try_for_each(|folder| match wait(folder, deadline) {
            Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            result => result,
        })
    }
}

fn write(folder: impl AsFd, what: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, c"cgroup.freeze", flags, Mode::empty())?;
    rustix::io::write(file, what).map(drop)
}

/// Waits until `cgroup.events` says that a cgroup's processes stand still: the kernel tells of each change
/// (cgroup-v2.rst, "cgroup.freeze").
fn wait(folder: impl AsFd, deadline: Instant) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, c"cgroup.events", flags, Mode::empty())?;
    loop {
        let mut text = [0; EVENTS];
        let count = rustix::io::pread(&file, &mut text, 0)?;
        if is_frozen(&text[..count]) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&left)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn is_frozen(events: &[u8]) -> bool {
    events.split(|byte| *byte == b'\n').any(|line| line == b"frozen 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_processes_stand_still_when_the_kernel_says_so() {
        assert!(is_frozen(b"populated 1\nfrozen 1\n"));
        assert!(!is_frozen(b"populated 1\nfrozen 0\n"));
        assert!(!is_frozen(b""));
    }
}
