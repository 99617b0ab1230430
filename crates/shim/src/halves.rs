//! One side of a control socket: a connection that is watched for what comes, and for room only while it takes
//! nothing. Used by `clients`, and for the other side by the runtime.
//!
//! Watched for room all the time, as sockets usually are, it would wake who has written each time that
//! the other side has read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::watch;

/// The receiving half of a connection, which is closed when both are gone.
#[derive(Debug)]
pub struct ReadHalf {
    socket: AsyncFd<Arc<OwnedFd>>,
}

/// The sending half. Dropped, it tells the other side that nothing more comes.
#[derive(Debug)]
pub struct WriteHalf {
    socket: Arc<OwnedFd>,
}

/// Both halves of a connected socket that does not block.
///
/// # Errors
/// When it can't be watched.
pub fn split(connection: impl Into<OwnedFd>) -> io::Result<(ReadHalf, WriteHalf)> {
    let socket = Arc::new(connection.into());
    let read = ReadHalf { socket: watch(socket.clone(), Interest::READABLE)? };
    Ok((read, WriteHalf { socket }))
}

impl ReadHalf {
    /// Waits until there is something and reads it; 0 is the end. May be dropped and called again.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // What is always ready would keep all others of this thread from their turn.
            tokio::task::consume_budget().await;
            let mut ready = self.socket.readable().await?;
            match recv(self.socket.get_ref(), &mut *buffer, RecvFlags::empty()) {
                Ok((count, _)) => {
                    // Less than there is room for is all that there is (epoll(7)); the end stays.
                    if (1..buffer.len()).contains(&count) {
                        ready.clear_ready();
                    }
                    return Ok(count);
                }
                Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl WriteHalf {
    /// Writes all of it, and waits while there is no room.
    ///
    /// # Errors
    /// When the connection fails. Who has hung up is told by an error, not by a signal.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut full = None;
        while !bytes.is_empty() {
            tokio::task::consume_budget().await;
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::WOULDBLOCK) => {
                    // A handle of its own, which the event loop does not know yet.
                    let full = match &full {
                        Some(full) => full,
                        None => full.insert(watch(self.socket.try_clone()?, Interest::WRITABLE)?),
                    };
                    AsyncFd::writable(full).await?.clear_ready();
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // Who has hung up needs not be told.
        let _ = shutdown(&self.socket, Shutdown::Write);
    }
}

impl AsFd for ReadHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (ReadHalf, WriteHalf, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (read, write) = split(ours).unwrap();
        (read, write, theirs)
    }

    #[tokio::test]
    async fn g5_what_does_not_fit_is_written_when_there_is_room() {
        let (_read, mut write, mut theirs) = pair();
        let much = vec![7; 4 << 20];
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        write.write_all(&much).await.unwrap();
        // The end of what is written is told though the other half is there still.
        drop(write);
        assert!(reader.join().unwrap() == much);
    }

    #[tokio::test]
    async fn g5_everything_is_read_and_then_the_end() {
        let (mut read, write, mut theirs) = pair();
        let mut buffer = [0; 4];
        for said in [&b"ab"[..], b"cdef", b"g"] {
            theirs.write_all(said).unwrap();
            assert_eq!(read.read(&mut buffer).await.unwrap(), said.len());
            assert_eq!(&buffer[..said.len()], said);
        }
        theirs.write_all(b"12345").unwrap();
        drop(theirs);
        assert_eq!(read.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(read.read(&mut buffer).await.unwrap(), 1);
        for _ in 0..2 {
            assert_eq!(read.read(&mut buffer).await.unwrap(), 0);
        }
        drop(write);
    }

    #[tokio::test(flavor = "local")]
    async fn g5_who_always_has_something_to_say_does_not_keep_others_from_their_turns() {
        use std::cell::Cell;
        use std::rc::Rc;

        let (mut read, _write, mut theirs) = pair();
        const SAID: usize = 32 << 10;
        theirs.write_all(&[0; SAID]).unwrap();
        // From here on it is known that there is something.
        let heard = Rc::new(Cell::new(read.read(&mut [0]).await.unwrap()));
        let so_far = heard.clone();
        let flooded = tokio::task::spawn_local(async move {
            while so_far.get() < SAID {
                so_far.set(so_far.get() + read.read(&mut [0]).await.unwrap());
            }
        });
        let other = tokio::task::spawn_local(async move { heard.get() });
        let before_its_turn = other.await.unwrap();
        assert!(before_its_turn < SAID, "all of it was heard before");
        flooded.await.unwrap();
    }

    #[tokio::test(flavor = "local")]
    async fn g5_who_hears_everything_at_once_does_not_keep_others_from_their_turns() {
        use std::cell::Cell;
        use std::rc::Rc;

        let (_read, mut write, _theirs) = pair();
        const PIECES: usize = 200;
        let told = Rc::new(Cell::new(0));
        let so_far = told.clone();
        let flooding = tokio::task::spawn_local(async move {
            while so_far.get() < PIECES {
                write.write_all(&[0]).await.unwrap();
                so_far.set(so_far.get() + 1);
            }
        });
        let other = tokio::task::spawn_local(async move { told.get() });
        let before_its_turn = other.await.unwrap();
        assert!(before_its_turn < PIECES, "all of it was told before");
        flooding.await.unwrap();
    }
}
