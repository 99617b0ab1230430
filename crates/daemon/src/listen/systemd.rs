//! Sockets that systemd listens on until somebody comes (sd_listen_fds(3)).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rustix::net::{AddressFamily, SocketType};
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
    use rustix::net::sockopt::{socket_acceptconn, socket_type};

    if socket_type(&socket)? != SocketType::STREAM || !socket_acceptconn(&socket)? {
        return Err(refused("a socket of systemd is none that listens: use ListenStream="));
    }
    match rustix::net::sockopt::socket_domain(&socket)? {
        AddressFamily::UNIX => {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            check_mode(&listener)?;
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

/// Who can write to a socket can use it; systemd lets everybody, if it is not told otherwise.
fn check_mode(listener: &std::os::unix::net::UnixListener) -> io::Result<()> {
    let address = listener.local_addr()?;
    let Some(path) = address.as_pathname() else { return Ok(()) };
    if std::fs::metadata(path)?.mode() & 0o002 != 0 {
        let path = path.display();
        return Err(refused(&format!("everybody can use the socket {path}: set SocketMode=0600")));
    }
    Ok(())
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_handed_over_listens_and_is_not_everybodys() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, allowed) in [(0o600, true), (0o660, true), (0o666, false)] {
            let path = folder.path().join(format!("{mode:o}"));
            let listener = UnixListener::bind(&path).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(understand(listener.into()).is_ok(), allowed, "{mode:o}");
        }
        let datagrams = UnixDatagram::bind(folder.path().join("datagrams")).unwrap();
        assert!(understand(datagrams.into()).is_err());
    }
}
