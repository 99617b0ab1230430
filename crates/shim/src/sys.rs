//! The one place of unsafe code in the shim: the descriptors it was started with, those whose readiness is
//! waited for, and giving memory back.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors [`STARTER_FD`](crate::STARTER_FD) to [`LISTENER_FD`](crate::LISTENER_FD), once in the
/// life of a process, and only if they are open.
pub(crate) fn take_inherited<const N: usize>(numbers: [RawFd; N]) -> Option<[OwnedFd; N]> {
    let open =
        |number: &RawFd| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    if TAKEN.swap(true, Ordering::SeqCst) || !numbers.iter().all(open) {
        return None;
    }
    // SAFETY: the numbers are open (checked above); nobody else owns them, because the starter put
    // them there for this process before it began and `TAKEN` lets only the first caller by.
    Some(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Lets the event loop watch for what `interest` says.
pub(crate) fn watch<T: Owned>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: an `Owned` is the same open descriptor from its making to its drop, and the AsyncFd has it
    // for as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// An open descriptor that stays open and the same as long as this lives.
pub(crate) trait Owned: AsRawFd {}

impl Owned for OwnedFd {}
impl Owned for Arc<OwnedFd> {}

/// Gives the memory that is free back to the system: what a large request took stays with the allocator
/// otherwise.
pub(crate) fn give_memory_back() {
    // SAFETY: it takes a number, and may be called at any time.
    unsafe { libc::malloc_trim(0) };
}
