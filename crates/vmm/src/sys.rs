//! Descriptors in the event loop, called by `process` and `ram`; and the memory of another process, read
//! by `snapshot`.
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

/// Reads places of a process's memory, one behind the other: `(address, length)` each, as many bytes as
/// `into` has.
pub(crate) fn read_memory(pid: u32, places: &[(u64, usize)], into: &mut [u8]) -> io::Result<()> {
    let remote: Vec<libc::iovec> = places
        .iter()
        .map(|(address, length)| libc::iovec {
            iov_base: *address as *mut libc::c_void,
            iov_len: *length,
        })
        .collect();
    if remote.iter().map(|place| place.iov_len).sum::<usize>() != into.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel writes at most `into.len()` bytes, to `into`, which is borrowed for as long. The
    // other addresses are another process's: the kernel checks them, and they are only read.
    let read =
        unsafe { libc::process_vm_readv(pid, &local, 1, remote.as_ptr(), remote.len() as u64, 0) };
    match usize::try_from(read) {
        Ok(count) if count == into.len() => Ok(()),
        // It stops at the first page that is not there.
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    /// A private mapping of a file, for ever.
    pub(crate) fn map_private(file: &File, length: usize) -> &'static mut [u8] {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        // SAFETY: a new mapping at a place of the kernel's choice, which is never unmapped; nobody else
        // has a reference to it, and the test does not change the file.
        unsafe {
            let fd = file.as_raw_fd();
            let address = libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0);
            assert_ne!(address, libc::MAP_FAILED);
            std::slice::from_raw_parts_mut(address.cast(), length)
        }
    }
}
