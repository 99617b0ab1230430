//! A client's connection, whatever it came over; and its death as an event, also while nobody reads
//! what it has sent. Made by `serve`, used by `stream`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::sys;

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Hears when a client has gone: it sends nothing more, ever.
#[derive(Debug)]
pub(crate) struct HangUp {
    // A descriptor of its own, so that its readiness is told apart from that of reading and writing.
    socket: AsyncFd<OwnedFd>,
}

impl Connection {
    /// Listens for the client's death.
    pub(crate) fn hang_up(&self) -> io::Result<HangUp> {
        let socket = rustix::io::fcntl_dupfd_cloexec(self.as_fd(), 3)?;
        Ok(HangUp { socket: sys::watch(socket)? })
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Connection::Unix(socket) => socket.as_fd(),
            Connection::Tcp(socket) => socket.as_fd(),
            Connection::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

impl HangUp {
    /// Returns when the client has gone.
    pub(crate) async fn heard(&self) {
        while let Ok(mut guard) = self.socket.ready(Interest::READABLE).await {
            if guard.ready().is_read_closed() {
                return;
            }
            guard.clear_ready_matching(Ready::READABLE);
        }
    }
}

/// The same on whatever there is.
macro_rules! on {
    ($connection:expr, $socket:ident => $call:expr) => {
        match $connection {
            Connection::Unix($socket) => $call,
            Connection::Tcp($socket) => $call,
            Connection::Tls($socket) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on!(self.get_mut(), socket => Pin::new(socket).poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), socket => Pin::new(socket).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), socket => Pin::new(socket).poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        on!(self, socket => socket.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), socket => Pin::new(socket).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn g6_a_client_that_dies_is_heard_though_nobody_reads_what_it_sent() {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let hang_up = Connection::Unix(ours).hang_up();
        // The other half is gone, so it is kept alive by the duplicate alone.
        let hang_up = hang_up.unwrap();
        client.write_all(&[1; 1000]).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), hang_up.heard()).await;
        assert!(early.is_err(), "what it sends is no hang-up");
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), hang_up.heard()).await.unwrap();
    }

    #[tokio::test]
    async fn g6_a_client_over_tcp_that_dies_is_heard() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let ours = Connection::Tcp(listener.accept().await.unwrap().0);
        let hang_up = ours.hang_up().unwrap();
        client.write_all(&[1; 1000]).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), hang_up.heard()).await;
        assert!(early.is_err(), "what it sends is no hang-up");
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), hang_up.heard()).await.unwrap();
    }
}
