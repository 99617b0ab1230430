//! A QEMU process: started, awaited, ended. Called by `restore`, `template::bake` and `vm`; recovery
//! ends what a lost shim left behind with [`Identity::end`].
//!
//! The process is known by a pidfd, taken while nobody can have reaped it. One task is its only
//! reaper (contract H2): it waits for the pidfd, reaps by it, and tells everybody else. Ending a VM
//! has one way (H3): signal by pidfd, then wait for that task with a deadline.

use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use boxwood_types::Signal as BoxSignal;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    waitid,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::confine::{self, Confined, QemuUser};
use crate::error::Error;
use crate::host;
use crate::sys::Watched;
use crate::tail::Tail;

/// How long QEMU's death is awaited when its control connection broke.
const AFTER_HANG_UP: Duration = Duration::from_secs(1);

/// How a QEMU process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmStatus {
    /// By itself, with this code: 0 when the guest shut down or rebooted.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
    /// Somebody else in this process has reaped it, so nobody can know.
    Unknown,
}

/// How a QEMU process ended, and the last it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmExit {
    /// How.
    pub status: VmStatus,
    /// The last lines of its error messages, joined; often empty.
    pub words: String,
}

/// What became of a VM that was to end (contract H3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ended {
    /// It is gone and reaped.
    Reaped(VmExit),
    /// It was not there any more, or what has its pid is something else.
    NotOurs,
}

/// A process that is recognized even when its pid was used again: for records on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid.
    pub pid: u32,
    /// When it was started, in clock ticks since the host booted (`proc(5)`, stat field 22).
    pub started: u64,
    /// The boot of the host it was started in.
    pub boot_id: String,
}

/// What to start.
pub(crate) struct SpawnRequest<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [String],
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    pub(crate) user: QemuUser,
    pub(crate) device: Option<&'a Path>,
}

/// A running QEMU. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    pidfd: Arc<OwnedFd>,
    exit: watch::Receiver<Option<VmExit>>,
    stderr: Tail,
}

/// Starts QEMU. Returns it and the supervision of its RAM's opening. To be called on a thread that
/// lives as long as the process: QEMU dies with the thread.
pub(crate) fn spawn(request: SpawnRequest<'_>) -> Result<(Process, OwnedFd), Error> {
    let (stderr, stderr_end) = Tail::open().map_err(Error::prepare("a pipe"))?;
    let (child, listener) = confine::start(Confined {
        program: request.program,
        arguments: request.arguments,
        descriptors: request.descriptors,
        stderr: stderr_end,
        user: request.user,
        device: request.device,
    })?;
    let pid = child.id();
    // From here to `Unreaped` nothing returns early: the child would be lost.
    let unreaped = Unreaped::new(child).map_err(Error::prepare("a pidfd"))?;
    let pidfd = Arc::clone(&unreaped.pidfd);
    let ready = Watched::new(Arc::clone(&pidfd)).map_err(Error::prepare("a watch of its pidfd"))?;
    let (sender, exit) = watch::channel(None);
    tokio::spawn(reap(unreaped, ready, stderr.clone(), sender));
    Ok((Process { pid, pidfd, exit, stderr }, listener))
}

/// The one reaper of one process.
async fn reap(
    mut unreaped: Unreaped,
    ready: Watched,
    mut stderr: Tail,
    sender: watch::Sender<Option<VmExit>>,
) {
    // An error here is one of the event loop; then `wait` is what waits.
    let _ = ready.readable().await;
    let status = unreaped.wait();
    // All it said is in the pipe by now.
    stderr.settle().await;
    sender.send_replace(Some(VmExit { status, words: stderr.last_words(3) }));
}

/// A child that nobody has waited for. Whatever happens to its task, it is killed and reaped.
#[derive(Debug)]
struct Unreaped {
    pidfd: Arc<OwnedFd>,
    reaped: Reaped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaped {
    No,
    Yes,
}

impl Unreaped {
    fn new(mut child: std::process::Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        // Nobody can have reaped it yet, so the number is its own.
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Unreaped { pidfd: Arc::new(pidfd), reaped: Reaped::No }),
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(errno.into())
            }
        }
    }

    /// Reaps; waits if it must.
    fn wait(&mut self) -> VmStatus {
        self.reaped = Reaped::Yes;
        wait_for(self.pidfd.as_fd())
    }
}

impl Drop for Unreaped {
    fn drop(&mut self) {
        if self.reaped == Reaped::Yes {
            return;
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        // The event loop is gone, and a thread is what is left to wait with.
        let pidfd = Arc::clone(&self.pidfd);
        let waiter = move || {
            let _ = wait_for(pidfd.as_fd());
        };
        // Without a thread it stays a zombie until this process ends; it holds nothing any more.
        let _ = std::thread::Builder::new().name("reaper".into()).spawn(waiter);
    }
}

fn wait_for(pidfd: BorrowedFd<'_>) -> VmStatus {
    let result = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED));
    let status = result.ok().flatten();
    let exited = status.as_ref().and_then(WaitIdStatus::exit_status).map(VmStatus::Exited);
    let signaled =
        || status.as_ref().and_then(WaitIdStatus::terminating_signal).map(VmStatus::Signaled);
    exited.or_else(signaled).unwrap_or(VmStatus::Unknown)
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has said last on its standard error.
    pub(crate) fn words(&self) -> String {
        self.stderr.last_words(3)
    }

    /// Waits until it has ended and was reaped.
    pub(crate) async fn exited(&mut self) -> VmExit {
        let lost = || VmExit { status: VmStatus::Unknown, words: String::new() };
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(lost),
            // The task that reaps was dropped with its event loop.
            Err(_) => lost(),
        }
    }

    /// Kills it and waits until it is gone (contract H3).
    pub(crate) async fn end(&mut self, within: Duration) -> Result<Ended, Error> {
        // That it may be gone already is seen below.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        match timeout(within, self.exited()).await {
            Ok(VmExit { status: VmStatus::Unknown, .. }) => Ok(Ended::NotOurs),
            Ok(exit) => Ok(Ended::Reaped(exit)),
            Err(_) => Err(Error::StillAlive { pid: self.pid, within }),
        }
    }

    /// Waits for `step`, for QEMU's death, or for the deadline, whichever comes first, and says
    /// which (contract H4). `doing` completes "QEMU was to".
    pub(crate) async fn during<T>(
        &mut self,
        doing: &'static str,
        limit: Limit,
        step: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let pid = self.pid;
        let died = |exit| Error::VmDied { doing, pid, exit: Box::new(exit) };
        let first = tokio::select! {
            biased;
            result = timeout_at(limit.end, step) => result,
            exit = self.exited() => return Err(died(exit)),
        };
        match first {
            Ok(Err(broken @ Error::Control { .. })) => {
                // A dead QEMU hangs up a moment before it can be reaped; its death says more.
                match timeout(AFTER_HANG_UP, self.exited()).await {
                    Ok(exit) => Err(died(exit)),
                    Err(_) => Err(broken),
                }
            }
            Ok(result) => result,
            Err(_) => Err(Error::VmWedged { doing, pid, within: limit.within }),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            // Its reaper sees it die.
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }
}

/// A deadline that remembers how long it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) end: Instant,
    pub(crate) within: Duration,
}

impl Limit {
    pub(crate) fn of(within: Duration) -> Self {
        Limit { end: Instant::now() + within, within }
    }
}

impl Identity {
    /// Of a process that is running now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> Result<Self, Error> {
        let failed = |source| Error::Host { what: "the start time of a process", source };
        let boot_id = host::boot_id().map_err(failed)?;
        Ok(Identity { pid, started: start_time(pid).map_err(failed)?, boot_id })
    }

    /// Kills the process, if it still is the one that is meant, and waits until it is gone: for a
    /// process that is not our child. [`Ended::NotOurs`] when there is nothing to end; one whose
    /// parent reaps it is [`Ended::Reaped`] with an unknown status.
    ///
    /// # Errors
    /// [`Error::StillAlive`] at the deadline, or when it may not be killed.
    pub async fn end(&self, within: Duration) -> Result<Ended, Error> {
        let pid = self.pid;
        let Some(pidfd) = self.open() else { return Ok(Ended::NotOurs) };
        let failed = Error::prepare("a watch of a process");
        let ready = Watched::new(Arc::new(pidfd)).map_err(&failed)?;
        match pidfd_send_signal(&ready, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) => return Ok(Ended::NotOurs),
            result => result.map_err(Error::prepare("a signal"))?,
        }
        match timeout(within, ready.readable()).await {
            Ok(Ok(_)) => {
                let exit = VmExit { status: VmStatus::Unknown, words: String::new() };
                Ok(Ended::Reaped(exit))
            }
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Error::StillAlive { pid, within }),
        }
    }

    /// A pidfd of the process. Its start time is compared after the pidfd is held: from then on the
    /// number can't change hands.
    fn open(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let same = start_time(self.pid).ok() == Some(self.started)
            && host::boot_id().ok().as_ref() == Some(&self.boot_id);
        same.then_some(pidfd)
    }
}

/// Field 22 of `/proc/PID/stat`; the second one can contain anything, up to the last parenthesis.
fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl fmt::Display for VmStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VmStatus::Exited(0) => f.write_str("it shut down"),
            VmStatus::Exited(code) => write!(f, "exit code {code}"),
            VmStatus::Signaled(number) => {
                let known = u8::try_from(*number).ok().and_then(|n| BoxSignal::try_from(n).ok());
                match known {
                    Some(signal) => write!(f, "killed by {signal}"),
                    None => write!(f, "killed by signal {number}"),
                }
            }
            VmStatus::Unknown => f.write_str("nobody knows how"),
        }
    }
}

impl fmt::Display for VmExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.words.is_empty() {
            write!(f, " ({})", self.words)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
