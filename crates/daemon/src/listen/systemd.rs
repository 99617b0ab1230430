//! Sockets that systemd listens on until somebody comes (sd_listen_fds(3)).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::AddressFamily;
use tokio::net::{TcpListener, UnixListener};

use crate::sys;

/// A socket that was handed over.
#[derive(Debug)]
pub(crate) enum Inherited {
    Unix(UnixListener),
    Tcp(TcpListener, SocketAddr),
}

/// All that were handed over.
pub(crate) fn take() -> io::Result<Vec<Inherited>> {
    sys::take_listening()?.into_iter().map(understand).collect()
}

fn understand(socket: OwnedFd) -> io::Result<Inherited> {
    match rustix::net::sockopt::socket_domain(&socket)? {
        AddressFamily::UNIX => {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            Ok(Inherited::Unix(UnixListener::from_std(listener)?))
        }
        _ => {
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Inherited::Tcp(TcpListener::from_std(listener)?, address))
        }
    }
}
