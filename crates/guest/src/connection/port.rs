//! The port itself: the channel as a file that is read and written without blocking. Part of
//! [`connection`](super).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::fault::{Fault, Step};

/// The virtio-serial port.
pub(crate) struct Port {
    fd: OwnedFd,
}

/// What came from the port.
pub(crate) enum Received {
    /// This many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nobody is at the other end.
    HungUp,
}

impl Port {
    /// A port opened for reading and writing without blocking.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Port { fd }
    }

    /// What to watch.
    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads what is there.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<Received, Fault> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(0) => Ok(Received::HungUp),
            Ok(count) => Ok(Received::Bytes(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(errno) => Err(errno).step("read from the channel"),
        }
    }

    /// Writes what there is room for; says how much.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Fault> {
        match rustix::io::write(&self.fd, bytes) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno).step("write to the channel"),
        }
    }
}
