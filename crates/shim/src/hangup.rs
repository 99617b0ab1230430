//! The death of a client, as an event: also while nobody reads what it has sent. Used by `clients`.

use std::io;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

/// Hears when the other end of a connection is closed. A half-close is none.
#[derive(Debug)]
pub(crate) struct HangUp {
    // A descriptor of its own, so that its readiness is told apart from that of reading and writing.
    connection: UnixStream,
}

impl HangUp {
    /// Listens on this connection.
    pub(crate) fn of(connection: &OwnedReadHalf) -> io::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(connection.as_ref(), 3)?;
        let connection = std::os::unix::net::UnixStream::from(socket);
        Ok(HangUp { connection: UnixStream::from_std(connection)? })
    }

    /// Returns when the client has gone.
    pub(crate) async fn heard(&self) {
        // Of a socket whose other end is closed, writing is closed, too.
        while let Ok(ready) = self.connection.ready(Interest::WRITABLE).await {
            if ready.is_write_closed() {
                return;
            }
            // Takes the notice off, and leaves the one that it is closed.
            let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.connection.try_io(Interest::WRITABLE, nothing);
        }
    }
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
        let (read, _write) = shim.into_split();
        let hang_up = HangUp::of(&read).unwrap();
        client.write_all(&[1; 1000]).await.unwrap();
        client.shutdown().await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), hang_up.heard()).await;
        assert!(early.is_err(), "a half-close is no hang-up");
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), hang_up.heard()).await.unwrap();
    }
}
