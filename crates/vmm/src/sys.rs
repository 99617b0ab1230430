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

    /// Waits until it is readable, which for a pidfd stays true for ever.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Calls `step` whenever it may be readable, until that does not say "would block".
    pub(crate) async fn when_readable<T>(
        &self,
        mut step: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.async_io(Interest::READABLE, |_| step()).await
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
