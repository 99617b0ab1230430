//! The one place where children are waited for (contract G2). Called by `guest` when the kernel says
//! that a child has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use boxwood_types::{ExitStatus, Signal};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::fault::{Fault, Step};
use crate::sys;

/// Learns of ended children.
pub(crate) struct Reaper {
    signals: OwnedFd,
}

/// What [`Reaper::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// This child had ended and is gone now.
    Child(Pid, ExitStatus),
    /// The others still run.
    OthersRun,
    /// There is no child at all.
    NoneLeft,
}

impl Reaper {
    /// Takes over SIGCHLD.
    pub(crate) fn new() -> Result<Self, Fault> {
        Ok(Reaper { signals: sys::child_signals().step("watch for ended children")? })
    }

    /// What becomes readable when a child has ended.
    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Takes the notice off. Before [`next`](Self::next): a child that ends meanwhile gives a new one.
    pub(crate) fn acknowledge(&self) {
        /// `struct signalfd_siginfo`; one SIGCHLD is pending at most.
        const NOTICE: usize = 128;
        let _ = rustix::io::read(&self.signals, &mut [0u8; NOTICE]);
    }

    /// Waits for one child without blocking.
    pub(crate) fn next(&self) -> Result<Reaped, Fault> {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => Ok(Reaped::Child(pid, exit_status(status))),
            Ok(None) => Ok(Reaped::OthersRun),
            Err(Errno::CHILD) => Ok(Reaped::NoneLeft),
            Err(errno) => Err(errno).step("wait for a child"),
        }
    }
}

/// A code or a signal; anything else is unknown and stays so.
fn exit_status(status: WaitStatus) -> ExitStatus {
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    let signal = status.terminating_signal().and_then(|number| u8::try_from(number).ok());
    match (code, signal.and_then(|number| Signal::try_from(number).ok())) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Unknown,
    }
}
