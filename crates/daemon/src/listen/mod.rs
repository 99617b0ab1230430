//! Where clients come from: sockets of systemd's, a Unix socket, TCP. Opened once, by `serve`.

mod systemd;
mod tls;
mod unix;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::auth::{Token, TokenError};
use crate::options::{Cover, Options, OptionsError, Reached};

pub(crate) use tls::TlsError;
pub(crate) use unix::SocketError;
pub(crate) use unix::SocketFile;

/// Where clients come from.
#[derive(Debug)]
pub(crate) enum Door {
    /// Who can open the file may come in.
    Unix(UnixListener),
    /// Who knows the token.
    Tcp(TcpListener, Guard),
}

/// What keeps strangers out.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) token: Arc<Token>,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// A client that has come in.
#[derive(Debug)]
pub(crate) enum Arrival {
    Unix(UnixStream),
    Tcp(TcpStream, Guard),
}

/// All doors. The file of a socket that was made here goes when this does.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) doors: Vec<Door>,
    /// Where they are, for people.
    pub(crate) addresses: Vec<String>,
    pub(crate) file: Option<SocketFile>,
}

/// Why nobody could come in.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It would not be safe.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificate or its key is none.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The Unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The TCP address.
    #[error("can't listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What systemd handed over.
    #[error("the sockets that the service manager handed over can't be used")]
    Inherited(#[source] io::Error),
}

/// Opens what the options say. Without anything it is the socket in the home.
pub(crate) async fn open(options: &Options, home: &Path) -> Result<Doors, ListenError> {
    let cover = options.cover()?;
    let inherited = systemd::take().map_err(ListenError::Inherited)?;
    let by_tcp = |one: &systemd::Inherited| matches!(one, systemd::Inherited::Tcp(..));
    let tcp = options.tcp.is_some() || inherited.iter().any(by_tcp);
    let elsewhere = options.tcp.is_some() || !inherited.is_empty();
    let own_socket = options.socket.is_some() || !elsewhere;
    options.check_use(Reached { tcp, own_socket })?;
    let token = options.token_file.as_deref().map(Token::read).transpose()?.map(Arc::new);
    let tls = match (cover, &options.tls_cert, &options.tls_key) {
        (Cover::Tls, Some(cert), Some(key)) => Some(tls::acceptor(cert, key)?),
        _ => None,
    };
    let guard = |address: SocketAddr| {
        options.check_tcp(address)?;
        let token = token.clone().ok_or(OptionsError::NoToken)?;
        Ok::<_, OptionsError>(Guard { token, tls: tls.clone() })
    };
    let mut doors = Doors { doors: Vec::new(), addresses: Vec::new(), file: None };
    for inherited in inherited {
        match inherited {
            systemd::Inherited::Unix(listener) => doors.add_unix(listener, "of systemd"),
            systemd::Inherited::Tcp(listener, address) => doors.add_tcp(listener, guard(address)?),
        }
    }
    if let Some(address) = options.tcp {
        let guard = guard(address)?;
        let failed = |source| ListenError::Tcp { address, source };
        doors.add_tcp(TcpListener::bind(address).await.map_err(failed)?, guard);
    }
    if own_socket {
        let path = options.socket.clone().unwrap_or_else(|| default_socket(home));
        let path = std::path::absolute(&path).unwrap_or(path);
        let (listener, file) = unix::bind(&path, options.group.as_deref())?;
        doors.add_unix(listener, &path.display().to_string());
        doors.file = Some(file);
    }
    Ok(doors)
}

/// The socket of a home.
fn default_socket(home: &Path) -> PathBuf {
    home.join("boxwood.sock")
}

impl Doors {
    fn add_unix(&mut self, listener: UnixListener, path: &str) {
        self.addresses.push(format!("unix://{path}"));
        self.doors.push(Door::Unix(listener));
    }

    fn add_tcp(&mut self, listener: TcpListener, guard: Guard) {
        let scheme = if guard.tls.is_some() { "https" } else { "http" };
        // Where port 0 was asked for, this is the one that was given.
        let address = listener.local_addr().map(|address| address.to_string());
        self.addresses.push(format!("{scheme}://{}", address.unwrap_or_default()));
        self.doors.push(Door::Tcp(listener, guard));
    }
}

impl Door {
    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<Arrival> {
        match self {
            Door::Unix(listener) => Ok(Arrival::Unix(listener.accept().await?.0)),
            Door::Tcp(listener, guard) => {
                let (stream, _) = listener.accept().await?;
                // What is typed is to be seen at once.
                stream.set_nodelay(true)?;
                Ok(Arrival::Tcp(stream, guard.clone()))
            }
        }
    }
}
