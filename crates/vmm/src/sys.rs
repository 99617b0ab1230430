//! Descriptors in the event loop. Called by `process` and `ram`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor whose readability is an event: a pidfd, a seccomp listener.
#[derive(Debug)]
pub(crate) struct Watched(AsyncFd<Arc<OwnedFd>>);

impl Watched {
    /// To be called in an event loop.
    pub(crate) fn new(descriptor: Arc<OwnedFd>) -> io::Result<Self> {
        // SAFETY: the descriptor is open as long as its OwnedFd, of which this value keeps a share
        // that nothing can reach to replace; an OwnedFd always gives the same number.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Watched(watched?))
    }

    /// Waits until it is readable, which for these descriptors stays true until it is read.
    pub(crate) async fn readable(&self) -> io::Result<Readable> {
        let ready = self.0.readable().await?.ready();
        Ok(if ready.is_read_closed() { Readable::HungUp } else { Readable::Yes })
    }
}

/// What became of a watched descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readable {
    /// There is something to read.
    Yes,
    /// The other side is gone.
    HungUp,
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
