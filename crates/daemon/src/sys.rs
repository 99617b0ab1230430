//! The one place of unsafe code in the daemon: descriptors that a service manager has handed over, and
//! those whose readiness is waited for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The listening sockets that systemd has opened for this process (sd_listen_fds(3)). To be called
/// once, before anything else opens a descriptor.
pub(crate) fn take_listening() -> io::Result<Vec<OwnedFd>> {
    let numbers = sd_notify::listen_fds()?;
    // SAFETY: LISTEN_PID is ours, so these numbers were handed over for us to use, and `listen_fds`
    // has just reached each of them; nobody else in this process knows of them.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}

/// Lets the event loop watch for something to be read.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is the same open descriptor from its making to its drop, and the AsyncFd has it
    // for as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}
