//! Why a daemon did not do what was asked.

use std::io;

use boxwood_api::{ErrorKind, Problem};

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error("can't reach the daemon at {host}: is 'boxwood serve' running there?")]
    Unreachable {
        /// Where.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It speaks something else, such as TLS.
    #[error("what answers at {host} does not speak HTTP: a daemon with TLS is asked by https://")]
    NoHttp {
        /// Where.
        host: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// There is no trust in it.
    #[error(
        "no TLS with the daemon at {host}: its certificate has to be a server's for this name, signed by one that \
         this host trusts or by one in the file that BOXWOOD_TLS_CA names"
    )]
    Untrusted {
        /// Where.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It wants a token.
    #[error("the daemon at {host} wants {}", wanted(token))]
    Unauthorized {
        /// Where.
        host: String,
        /// The file of the token that it was shown.
        token: Option<String>,
    },
    /// A secret can't be read.
    #[error("can't read {what} in {path}")]
    Secret {
        /// Which.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A token would be read by others.
    #[error("the token file {path} is not used: {why}")]
    Exposed {
        /// The file.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// The connection broke.
    #[error("the connection to the daemon at {host} broke")]
    Broken {
        /// Where.
        host: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// The stream broke.
    #[error("the stream broke")]
    Stream(#[source] io::Error),
    /// What it was telling was cut off.
    #[error("the daemon ended, or the connection to it, before it had told everything")]
    CutOff,
    /// What it says is not understood.
    #[error("the daemon at {host} says what this version does not understand")]
    Protocol {
        /// Where.
        host: String,
    },
    /// The daemon refuses.
    #[error("{}", .0.message)]
    Refused(Problem),
}

impl Error {
    /// Of a body that can't be read on: nobody cuts it off but by ending, or losing, its connection.
    pub(crate) fn of_body(error: hyper::Error) -> Error {
        use std::error::Error as _;
        let broken = error.source().is_some_and(|source| source.is::<io::Error>());
        match broken || error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            true => Error::CutOff,
            false => Error::Stream(io::Error::other(error)),
        }
    }

    /// What the daemon's refusal means; `None` for everything else.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Error::Refused(problem) => Some(problem.kind),
            Error::Unauthorized { .. } => Some(ErrorKind::Unauthorized),
            _ => None,
        }
    }
}

fn wanted(token: &Option<String>) -> String {
    match token {
        None => "a token: let BOXWOOD_TOKEN_FILE name the file that holds it".to_owned(),
        Some(path) => {
            format!("another token than the one in {path}, which BOXWOOD_TOKEN_FILE names")
        }
    }
}
