//! The channel's socket, as a [`Link`](super::Link) uses it: looked at when there is something to read, written to
//! straight away, and waited for only while it takes nothing.
//!
//! A socket that is watched for room tells of it each time that the other side has read, which is once
//! for each request: a wake-up that nobody needs.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::watch;

/// A connected socket that never blocks.
#[derive(Debug)]
pub(super) struct Socket {
    inner: AsyncFd<OwnedFd>,
    /// Another handle on it, watched for room since it took nothing.
    full: Option<AsyncFd<OwnedFd>>,
}

impl Socket {
    /// Watches a socket that does not block, as long as this lives.
    pub(super) fn over(socket: OwnedFd) -> io::Result<Socket> {
        Ok(Socket { inner: watch(socket, Interest::READABLE)?, full: None })
    }

    /// Waits until it may be read from, or, if it took nothing, until it may be written to.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let Some(full) = &self.full else { return self.inner.readable().await.map(drop) };
        tokio::select! {
            ready = self.inner.readable() => ready.map(drop),
            ready = full.writable() => ready.map(drop),
        }
    }

    /// Reads what is there; `WouldBlock` when that is nothing.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut got = None;
        let read = self.inner.try_io(Interest::READABLE, |socket| {
            let (count, _) = recv(socket, &mut *buffer, RecvFlags::empty())?;
            got = Some(count);
            // Less than there is room for is all that there is (epoll(7)): nothing is read until there is more.
            if count < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (got, read) {
            (Some(count), _) => Ok(count),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what it takes; `WouldBlock` when that is nothing: from then on it is watched for room.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(full) = &self.full {
            return full.try_io(Interest::WRITABLE, |socket| Ok(say(socket, bytes)?));
        }
        let socket = self.inner.get_ref();
        let written = say(socket, bytes);
        if written == Err(Errno::WOULDBLOCK) {
            self.full = Some(watch(socket.try_clone()?, Interest::WRITABLE)?);
        }
        Ok(written?)
    }

    /// Everything was written: whether there is room is of no interest.
    pub(super) fn is_written(&mut self) {
        self.full = None;
    }
}

/// Who has hung up is told by an error, not by a signal.
fn say(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    send(socket, bytes, SendFlags::NOSIGNAL)
}
