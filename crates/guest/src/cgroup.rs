//! Cgroups of sessions: how a signal reaches every process of one, whatever those did to their groups
//! and sessions (contract G4). Made by `sessions`, used by `session`.
//!
//! The box sees them in a mount that can't be written to. Root in the box can make that writable, and then
//! move its processes to another cgroup or remove one: a session's own process is still reached by its id
//! then, and the rest only when the box ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use boxwood_types::Signal;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, RawPid};

use crate::fault::{Fault, Step};
use crate::sys;

/// The most of `cgroup.procs` that is read: the ids of some 30,000 processes.
const MAX_LIST: usize = 256 * 1024;

/// All sessions' cgroups.
pub(crate) struct Cgroups {
    folder: OwnedFd,
    /// See [`open_procs`].
    _procs: OwnedFd,
    made: u64,
    /// Those whose session has ended and in which something went on.
    left: Vec<u64>,
}

/// One session's cgroup.
pub(crate) struct Cgroup {
    number: u64,
    folder: OwnedFd,
    /// See [`open_procs`].
    _procs: OwnedFd,
}

impl Cgroups {
    /// In this directory of the cgroup file system.
    pub(crate) fn new(folder: OwnedFd) -> Result<Self, Fault> {
        let procs = open_procs(folder.as_fd())?;
        Ok(Cgroups { folder, _procs: procs, made: 0, left: Vec::new() })
    }

    /// The directory that they are in.
    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// A fresh one.
    pub(crate) fn make(&mut self) -> Result<Cgroup, Fault> {
        // One look for each that is made: so what was left behind is found in time.
        if let Some(number) = self.left.pop() {
            self.remove(number);
        }
        self.made += 1;
        let name = name(self.made);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::mkdirat(&self.folder, &name, Mode::from_raw_mode(0o755));
        let opened =
            made.and_then(|()| rustix::fs::openat(&self.folder, &name, flags, Mode::empty()));
        let folder = opened.step("create the cgroup of a session")?;
        let procs = open_procs(folder.as_fd())?;
        Ok(Cgroup { number: self.made, folder, _procs: procs })
    }

    /// Takes one back whose session has ended.
    pub(crate) fn give_back(&mut self, cgroup: Cgroup) {
        self.remove(cgroup.number);
    }

    fn remove(&mut self, number: u64) {
        // Something still runs in it: it is looked at again.
        if rustix::fs::unlinkat(&self.folder, name(number), AtFlags::REMOVEDIR) == Err(Errno::BUSY)
        {
            self.left.insert(0, number);
        }
    }
}

/// A descriptor of this cgroup's `cgroup.procs`, which is kept open so that the kernel keeps its inode: it
/// looks at that for each process that is cloned into the cgroup or one below, and would make and forget it
/// each time.
pub(crate) fn open_procs(cgroup: BorrowedFd<'_>) -> Result<OwnedFd, Fault> {
    rustix::fs::openat(cgroup, c"cgroup.procs", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step("open cgroup.procs of a cgroup")
}

fn name(number: u64) -> String {
    format!("session-{number}")
}

impl Cgroup {
    /// Kills everything in it, also what is being forked.
    pub(crate) fn kill(&self) {
        // If it was taken away there is nothing in it.
        if let Ok(file) = self.open(c"cgroup.kill", OFlags::WRONLY) {
            let _ = rustix::io::write(&file, b"1");
        }
    }

    /// Sends a signal to every process in it, and to `leader` also if it has left.
    pub(crate) fn signal(&self, signal: Signal, leader: Option<Pid>) {
        if signal == Signal::KILL {
            self.kill();
        }
        let mut pids = self.processes();
        pids.extend(leader.filter(|leader| !pids.contains(leader)));
        for pid in pids {
            // One that has just ended needs none.
            let _ = sys::kill(pid, signal.number().into());
        }
    }

    /// Whether nothing runs in it.
    pub(crate) fn is_empty(&self) -> bool {
        let mut text = [0; 256];
        let file = self.open(c"cgroup.events", OFlags::RDONLY);
        match file.and_then(|file| rustix::io::read(&file, &mut text)) {
            Ok(count) => !text[..count].starts_with(b"populated 1"),
            // It was taken away.
            Err(_) => true,
        }
    }

    fn processes(&self) -> Vec<Pid> {
        let Ok(file) = self.open(c"cgroup.procs", OFlags::RDONLY) else { return Vec::new() };
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while text.len() < MAX_LIST {
            match rustix::io::read(&file, &mut buffer) {
                Ok(count) if count > 0 => text.extend_from_slice(&buffer[..count]),
                _ => break,
            }
        }
        parse(&text)
    }

    fn open(&self, name: &std::ffi::CStr, mode: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.folder, name, mode | OFlags::CLOEXEC, Mode::empty())
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// The ids in `cgroup.procs`. A process of another pid namespace is shown as 0, and is none.
fn parse(text: &[u8]) -> Vec<Pid> {
    let number = |line: &[u8]| std::str::from_utf8(line).ok()?.parse::<RawPid>().ok();
    let pid = |line| number(line).and_then(Pid::from_raw).filter(|pid| !pid.is_init());
    text.split(|byte| *byte == b'\n').filter_map(pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_every_process_of_a_list_is_found_and_pid_1_never() {
        let pids: Vec<RawPid> = parse(b"7\n0\n1\n4194304\nx\n\n12")
            .iter()
            .map(|pid| pid.as_raw_nonzero().get())
            .collect();
        assert_eq!(pids, [7, 4_194_304, 12]);
    }
}
