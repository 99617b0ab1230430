//! Where a daemon is: `unix://PATH`, `http://HOST:PORT`, `https://HOST:PORT`; and how it is reached.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::Error;

/// The certificates that this host trusts.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP in the clear, `HOST:PORT`.
    Http(String),
    /// TLS, `HOST:PORT`.
    Https(String),
}

/// What a client has to show, and what it believes.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The file with the token.
    pub token_file: Option<PathBuf>,
    /// The file with the certificates that are believed instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why a text is no host.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no host: write unix:///PATH, http://HOST:PORT or https://HOST:PORT")]
pub struct HostError(String);

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let wrong = || HostError(text.chars().take(100).collect());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').filter(|_| scheme != "unix").unwrap_or(rest);
        let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let plain = rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Host::Unix(rest.into())),
            "http" if port.is_some() && plain => Ok(Host::Http(rest.to_owned())),
            "https" if port.is_some() && plain => Ok(Host::Https(rest.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(f, "unix://{}", path.display()),
            Host::Http(address) => write!(f, "http://{address}"),
            Host::Https(address) => write!(f, "https://{address}"),
        }
    }
}

/// Bytes, both ways.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Host {
    /// What a request calls it.
    pub(crate) fn authority(&self) -> &str {
        match self {
            Host::Unix(_) => "box",
            Host::Http(address) | Host::Https(address) => address,
        }
    }

    /// Whether nobody on the way reads what is sent.
    fn is_private(&self) -> bool {
        match self {
            Host::Unix(_) | Host::Https(_) => true,
            Host::Http(address) => {
                let name = address.rsplit_once(':').map_or(&**address, |(name, _)| name);
                let name = name.trim_start_matches('[').trim_end_matches(']');
                name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
        }
    }

    /// A connection.
    pub(crate) async fn connect(&self, secrets: &Secrets) -> Result<Box<dyn Wire>, Error> {
        let unreachable = |source| Error::Unreachable { host: self.to_string(), source };
        match self {
            Host::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?)),
            Host::Http(address) => Ok(Box::new(tcp(address).await.map_err(unreachable)?)),
            Host::Https(address) => {
                let connector = secrets.connector()?;
                let name = address.rsplit_once(':').map_or(&**address, |(name, _)| name);
                let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(name)
                    .map_err(|error| unreachable(io::Error::other(error)))?;
                let stream = tcp(address).await.map_err(unreachable)?;
                let untrusted = |source| Error::Untrusted { host: self.to_string(), source };
                Ok(Box::new(connector.connect(name, stream).await.map_err(untrusted)?))
            }
        }
    }
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Secrets {
    /// The token for this host, if there is one. It is shown to nobody else.
    pub(crate) fn token(&self, host: &Host) -> Result<Option<String>, Error> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let shown = || path.display().to_string();
        let failed = |source| Error::Secret { what: "the token", path: shown(), source };
        let exposed = |why| Err(Error::Exposed { path: shown(), why });
        if !host.is_private() {
            return exposed("it would go over the network in the clear; use https://");
        }
        let mut file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return exposed("others can use it; run 'chmod 600' on it");
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let token = text.trim_end_matches('\n');
        match token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Some(token.to_owned())),
            false => exposed("it must hold one line of visible characters"),
        }
    }

    fn connector(&self) -> Result<TlsConnector, Error> {
        let path = self.ca_file.clone().unwrap_or_else(|| SYSTEM_CA.into());
        let failed = |source| Error::Secret {
            what: "certificates",
            path: path.display().to_string(),
            source,
        };
        let certificates = CertificateDer::pem_file_iter(&path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(io::Error::other(error)))?;
        let mut roots = RootCertStore::empty();
        // Some of a system's are in forms that are not known here.
        roots.add_parsable_certificates(certificates);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(io::Error::other(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_nobody_on_the_way_and_lies_open_to_nobody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let secrets = Secrets { token_file: Some(file.path().to_owned()), ca_file: None };
        for (host, shown) in [
            ("unix:///run/boxwood.sock", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("https://box.example:1", true),
            ("http://box.example:1", false),
            ("http://10.0.0.1:1", false),
            ("http://127.0.0.1.example:1", false),
        ] {
            let token = secrets.token(&host.parse().unwrap());
            assert_eq!(token.ok().flatten().as_deref(), shown.then_some("secret"), "{host}");
        }
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(file.path(), open).unwrap();
        let error = secrets.token(&Host::Unix("/run/x".into())).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn h13_a_host_is_a_socket_or_an_address_with_a_port() {
        for good in [
            "unix:///run/boxwood.sock",
            "http://127.0.0.1:7070",
            "https://box.example:7070",
            "http://[::1]:7070",
        ] {
            assert_eq!(good.parse::<Host>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "unix://run",
            "http://box",
            "box:7070",
            "ftp://box:1",
            "http://box:1/v1",
            "http://",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
