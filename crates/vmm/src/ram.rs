//! Gives QEMU its RAM. Called by `restore` and `template::bake`.
//!
//! QEMU opens the file of its RAM for reading and writing even when it maps it privately (before 8.2
//! always), and keeps it open: one that was taken over could change the template of all boxes. So it
//! gets a path where nothing is, its `openat` is stopped by the kernel (see `confine`), and answered
//! with a descriptor of ours, which for a restore is open for reading only. After that there is
//! nobody to answer, and every other such call fails.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::confine::{give_descriptor, receive_notification};
use crate::error::Error;
use crate::process::{Limit, Process};
use crate::sys::Watched;

/// Waits until QEMU opens its RAM, and answers with `ram`.
pub(crate) async fn give(
    process: &mut Process,
    listener: OwnedFd,
    ram: &File,
    limit: Limit,
) -> Result<(), Error> {
    let pid = process.pid();
    let failed = |source| Error::GiveRam { pid, source };
    let listener = Watched::new(Arc::new(listener)).map_err(failed)?;
    let answered = async {
        match listener.when_readable(|| answer(listener.as_fd(), ram)).await.map_err(failed)? {
            Opening::Answered => Ok(()),
            // It has ended; how it did is the better message.
            Opening::Never => std::future::pending().await,
        }
    };
    process.during("open its RAM", limit, answered).await
}

/// What became of the opening of the RAM.
enum Opening {
    Answered,
    /// Nobody is left who could open it.
    Never,
}

/// Answers the call that waits. If a signal interrupts the call meanwhile, it waits no more: QEMU
/// makes it again, which is the next event.
fn answer(listener: BorrowedFd<'_>, ram: &File) -> io::Result<Opening> {
    let mut waits = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
    poll(&mut waits, Some(&Timespec::default()))?;
    match waits[0].revents() {
        seen if seen.contains(PollFlags::IN) => {}
        seen if seen.contains(PollFlags::HUP) => return Ok(Opening::Never),
        _ => return Err(io::ErrorKind::WouldBlock.into()),
    }
    let given = receive_notification(listener)
        .and_then(|call| give_descriptor(listener, call, ram.as_fd()));
    match given {
        Ok(()) => Ok(Opening::Answered),
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => Err(error),
    }
}
