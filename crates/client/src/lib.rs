//! A client of the REST API: over a Unix socket, TCP or TLS. The CLI uses it for `--host`.
//!
//! Each request has a connection of its own. What the daemon answers is plain data of
//! [`boxwood_api`]; streams carry the frames of docs/protocol.md.

mod captures;
mod download;
mod error;
mod host;
mod lines;
mod request;
mod stream;
mod verbs;

pub use download::Download;
pub use error::Error;
pub use host::{Host, HostError, Secrets};
pub use lines::Lines;
pub use request::{Body, body};
pub use stream::{FromBox, Reader, Writer};
pub use verbs::Query;

/// A daemon that can be asked.
#[derive(Clone, Debug)]
pub struct Client {
    host: Host,
    secrets: Secrets,
}

impl Client {
    /// A client of the daemon there.
    pub fn new(host: Host, secrets: Secrets) -> Self {
        Client { host, secrets }
    }
}
