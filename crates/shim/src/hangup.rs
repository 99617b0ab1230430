//! The death of a client, as an event: also while nobody reads what it has sent. Used by `clients`.

use std::io;

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::watch;

/// Hears when the other end of a connection is closed. A half-close is none.
#[derive(Debug)]
pub(crate) struct HangUp {
    // A descriptor of its own, so that its readiness is told apart from that of reading and writing.
    connection: AsyncFd<OwnedFd>,
}

impl HangUp {
    /// Listens on this connection.
    pub(crate) fn of(connection: &impl AsFd) -> io::Result<Self> {
        // Such sockets have no urgent data, and a hang-up is told whatever is asked for (epoll_ctl(2)).
        let socket = connection.as_fd().try_clone_to_owned()?;
        Ok(HangUp { connection: watch(socket, Interest::PRIORITY)? })
    }

    /// Returns when the client has gone.
    pub(crate) async fn heard(&self) {
        // Of a socket whose other end is closed, reading is closed, too: without it there is nothing to be
        // told here, so a half-close is not.
        while let Ok(mut ready) = self.connection.ready(Interest::PRIORITY).await {
            if ready.ready().is_read_closed() {
                return;
            }
            ready.clear_ready();
        }
    }
}

/// Whether the other end is closed by now. A half-close is none.
pub(crate) fn has_gone(connection: &impl AsFd) -> bool {
    let mut watched = [PollFd::new(connection, PollFlags::empty())];
    let polled = poll(&mut watched, Some(&Timespec::default()));
    polled.is_ok() && watched[0].revents().contains(PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn g6_a_client_that_dies_is_heard_though_nobody_reads_what_it_sent() {
        let (mut client, shim) = UnixStream::pair().unwrap();
        let hang_up = HangUp::of(&shim).unwrap();
        client.write_all(&[1; 1000]).await.unwrap();
        client.shutdown().await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), hang_up.heard()).await;
        assert!(early.is_err() && !has_gone(&shim), "a half-close is no hang-up");
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), hang_up.heard()).await.unwrap();
        assert!(has_gone(&shim));
    }
}
