//! The one place of unsafe code in the shim: taking over the descriptors it was started with.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

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
