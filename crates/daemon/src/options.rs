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
    /// What is for TCP alone, and there is none.
    #[error("{0} is for TCP, and nothing listens there: add --tcp ADDRESS:PORT, or leave it out")]
    NoTcp(&'static str),
    /// A group, and no socket that is made here.
    #[error(
        "--group is for a Unix socket, and none is made here: add --socket PATH, or leave it out"
    )]
    NoSocket,
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

/// What a daemon listens on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    /// On TCP, here or by systemd.
    pub(crate) tcp: bool,
    /// On a Unix socket that it makes itself.
    pub(crate) own_socket: bool,
}

impl Options {
    /// Checks that nothing is wished for that would not matter.
    ///
    /// # Errors
    /// When something is.
    pub(crate) fn check_use(&self, reached: Reached) -> Result<(), OptionsError> {
        let for_tcp = [
            (&self.token_file, "--token-file"),
            (&self.tls_cert, "--tls-cert"),
            (&self.tls_key, "--tls-key"),
        ];
        match for_tcp.into_iter().find(|(wish, _)| wish.is_some()) {
            Some((_, flag)) if !reached.tcp => Err(OptionsError::NoTcp(flag)),
            _ if self.group.is_some() && !reached.own_socket => Err(OptionsError::NoSocket),
            _ => Ok(()),
        }
    }

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

    #[test]
    fn h13_what_would_not_matter_is_refused() {
        let path = || Some(PathBuf::from("file"));
        let none = Options::default;
        for (options, tcp, own_socket, allowed) in [
            (none(), false, true, true),
            (Options { token_file: path(), ..none() }, false, true, false),
            (Options { token_file: path(), ..none() }, true, false, true),
            (Options { tls_cert: path(), ..none() }, false, true, false),
            (Options { tls_key: path(), ..none() }, false, true, false),
            (Options { group: Some("users".into()), ..none() }, false, true, true),
            (Options { group: Some("users".into()), ..none() }, true, false, false),
        ] {
            let checked = options.check_use(Reached { tcp, own_socket });
            assert_eq!(checked.is_ok(), allowed, "{options:?} {tcp} {own_socket}: {checked:?}");
        }
    }
}
