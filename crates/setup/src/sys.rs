//! The one unsafe call of this crate: what a helper process does between fork and exec.
//! Called by `command`.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Makes the child die with the thread that spawns it, so that no download outlives us, and
/// inherit `kept`, so that it and its own children hold the lock of that file.
pub(crate) fn bind(command: &mut Command, kept: Option<BorrowedFd<'_>>) {
    let parent = getpid();
    let kept = kept.map(|kept| kept.as_raw_fd());
    // SAFETY: the closure runs in the forked child and only makes system calls through rustix; it
    // allocates nothing and takes no lock. `command::run` holds the borrow of `kept` until after
    // the spawn, so the number is still that descriptor's in the child.
    unsafe {
        command.pre_exec(move || {
            if let Some(kept) = kept {
                fcntl_setfd(BorrowedFd::borrow_raw(kept), FdFlags::empty())?;
            }
            die_with(parent)
        });
    }
}

fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above: then nobody would send the signal.
    if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
}
