//! Starts QEMU with as few rights as it needs. Called by `process`.
//!
//! Between fork and exec the child: leaves the terminal, gets its memory in small pages, drops to the box's
//! own user, arranges to die with its parent, gives up gaining rights, core dumps, every descriptor but those of its VM
//! and, where the kernel has Landlock, every right to open files for writing. Last it puts the
//! opening of its RAM under supervision (see `ram`).

mod sys;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

pub(crate) use sys::{give_descriptor, receive_notification};

use crate::error::Error;

/// The user QEMU runs as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QemuUser {
    /// The one that starts it.
    #[default]
    Same,
    /// One of the box's own, with no other group. Only root can.
    Drop {
        /// The user id: one that nothing else on the host has.
        uid: u32,
        /// The group id.
        gid: u32,
    },
}

/// The first of the user ids that VMs get when root starts them; systemd's "UIDS-GIDS" leaves the
/// range from here to 2^31-1 unused.
const FIRST_UID: u32 = 0x7000_0000;

impl QemuUser {
    /// A user of the VM's own, if root starts it, so that one QEMU can do nothing to another. The
    /// lower 28 bits of `seed` choose which.
    pub fn own(seed: u32) -> Self {
        match rustix::process::geteuid().is_root() {
            true => {
                let uid = FIRST_UID + (seed & 0x0fff_ffff);
                QemuUser::Drop { uid, gid: uid }
            }
            false => QemuUser::Same,
        }
    }
}

/// A program to start, with all that it may keep.
pub(crate) struct Confined<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [String],
    /// The descriptors it keeps, under their numbers.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    pub(crate) stderr: OwnedFd,
    pub(crate) user: QemuUser,
    /// The one device that it opens by itself, for writing.
    pub(crate) device: Option<&'a Path>,
}

/// The steps between fork and exec, by number: the child can't say more.
const STEPS: [&str; 13] = [
    "leaving the terminal",
    "keeping its descriptors from others",
    "forbidding core dumps",
    "dropping its groups",
    "dropping its group",
    "dropping its user",
    "dying with its parent",
    "finding its parent alive",
    "forbidding new privileges",
    "forbidding writes to files (Landlock)",
    "supervising the opening of its RAM (seccomp)",
    "handing over the supervision",
    "limiting its descriptors",
];

/// Starts the program. Returns it and the supervision of its RAM's opening.
pub(crate) fn start(confined: Confined<'_>) -> Result<(Child, OwnedFd), Error> {
    check_user(confined.user)?;
    let (ours, theirs) = UnixStream::pair().map_err(Error::prepare("a socket"))?;
    let kept: Vec<RawFd> = confined.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let device = confined.device.map(|path| find_device(path, confined.user)).transpose()?;
    let mut command = Command::new(confined.program);
    command
        .args(confined.arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(confined.stderr);
    let plan = sys::Plan {
        kept,
        user: confined.user,
        parent: rustix::process::getpid(),
        device,
        report: theirs.into(),
    };
    let started = sys::spawn(&mut command, plan);
    // It holds our copy of the child's end of the socket.
    drop(command);
    let child = match started {
        Ok(child) => child,
        Err(source) => return Err(explain(&ours, confined.program, source)),
    };
    match receive_descriptor(&ours) {
        Ok((Some(listener), _)) => Ok((child, listener)),
        other => {
            let source = other.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
            sys::kill_and_reap(child);
            Err(Error::Confine { step: "receiving the supervision", source })
        }
    }
}

/// Neither root nor -1, which means "as it is" to the kernel.
fn check_user(user: QemuUser) -> Result<(), Error> {
    match user {
        QemuUser::Drop { uid: 0 | u32::MAX, .. } | QemuUser::Drop { gid: 0 | u32::MAX, .. } => {
            let source = io::ErrorKind::InvalidInput.into();
            Err(Error::Confine { step: "dropping its user", source })
        }
        _ => Ok(()),
    }
}

/// A device and the group that opens it. A user of the box's own has nothing but that group; root's
/// it never gets.
fn find_device(path: &Path, user: QemuUser) -> Result<sys::Device, Error> {
    let find = || {
        let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::Result::Ok((rustix::fs::fstat(&place)?, place))
    };
    let (stat, place) = find().map_err(|errno| Error::io("find", path)(errno.into()))?;
    let group = stat.st_gid;
    let mode = Mode::from_raw_mode(stat.st_mode);
    let open_to = |who: Mode| mode.contains(who);
    let by_group = group != 0 && open_to(Mode::RGRP | Mode::WGRP);
    if matches!(user, QemuUser::Drop { .. }) && !by_group && !open_to(Mode::ROTH | Mode::WOTH) {
        return Err(Error::DeviceForRootOnly { path: path.to_owned() });
    }
    Ok(sys::Device { place, group })
}

/// What failed in a child that was not to be: a step, which it has named, or the program itself.
fn explain(report: &UnixStream, program: &Path, source: io::Error) -> Error {
    let mut step = [0];
    let named = report.set_nonblocking(true).is_ok()
        && matches!(rustix::io::read(report, &mut step), Ok(1));
    match STEPS.get(usize::from(step[0])).filter(|_| named) {
        Some(step) => Error::Confine { step, source },
        None => Error::Spawn { path: program.to_owned(), source },
    }
}

/// Receives some bytes and the descriptor that came with them.
pub(crate) fn receive_descriptor(socket: &UnixStream) -> io::Result<(Option<OwnedFd>, usize)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 512];
    let mut buffers = [io::IoSliceMut::new(&mut bytes)];
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((descriptor, received.bytes))
}

#[cfg(test)]
mod tests;
