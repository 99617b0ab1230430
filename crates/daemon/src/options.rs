//! How a daemon can be reached, checked before anything is opened. What is not safe is refused here.

use std::net::SocketAddr;
use std::path::PathBuf;

/// How a daemon can be reached, as its user says it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The Unix socket; without it, and without anything else, the one in the home.
    pub socket: Option<PathBuf>,
    /// The group that may use the Unix socket, too.
    pub group: Option<String>,
    /// A TCP address.
    pub tcp: Option<SocketAddr>,
    /// The file that holds the token which clients over TCP have to send.
    pub token_file: Option<PathBuf>,
    /// The certificate chain for TLS, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
}

/// Why a daemon can't be reached like this.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Anybody on the host could use it.
    #[error("TCP needs a token: say with --token-file where it is")]
    NoToken,
    /// The token could be read on the way.
    #[error("{0} can be reached from other hosts, so it needs TLS: add --tls-cert and --tls-key")]
    NoTls(SocketAddr),
    /// One without the other.
    #[error("--tls-cert and --tls-key belong together")]
    HalfTls,
}

/// Whether TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cover {
    /// In the clear.
    None,
    /// TLS.
    Tls,
}

impl Options {
    /// Whether TLS is spoken over TCP.
    ///
    /// # Errors
    /// When a certificate has no key, or the other way round.
    pub(crate) fn cover(&self) -> Result<Cover, OptionsError> {
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(Cover::None),
            (Some(_), Some(_)) => Ok(Cover::Tls),
            _ => Err(OptionsError::HalfTls),
        }
    }

    /// Checks that TCP at this address is as safe as it must be.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn check_tcp(&self, address: SocketAddr) -> Result<(), OptionsError> {
        if self.token_file.is_none() {
            return Err(OptionsError::NoToken);
        }
        if !address.ip().is_loopback() && self.cover()? == Cover::None {
            return Err(OptionsError::NoTls(address));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_needs_a_token_and_off_loopback_tls_too() {
        let options = |token: bool, tls: bool| Options {
            token_file: token.then(|| "token".into()),
            tls_cert: tls.then(|| "cert".into()),
            tls_key: tls.then(|| "key".into()),
            ..Options::default()
        };
        for (address, token, tls, allowed) in [
            ("127.0.0.1:1", true, false, true),
            ("[::1]:1", true, false, true),
            ("127.0.0.1:1", false, false, false),
            ("127.0.0.1:1", false, true, false),
            ("0.0.0.0:1", true, false, false),
            ("[::]:1", true, false, false),
            ("10.0.0.1:1", true, false, false),
            ("0.0.0.0:1", false, true, false),
            ("0.0.0.0:1", true, true, true),
        ] {
            let checked = options(token, tls).check_tcp(address.parse().unwrap());
            assert_eq!(checked.is_ok(), allowed, "{address} {token} {tls}: {checked:?}");
        }
        let half = Options { tls_cert: Some("cert".into()), ..Options::default() };
        assert!(half.cover().is_err());
    }
}
