//! A body that consists of lines, each of them JSON, as long as it goes on.

use std::io;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::Error;

/// The longest line, in bytes: a daemon is not trusted with our memory.
const MAX_LINE: usize = 1 << 20;

/// The lines of a body.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    /// What has come and was not handed out.
    read: Vec<u8>,
}

impl Lines {
    pub(crate) fn of(body: Incoming) -> Self {
        Lines { body, read: Vec::new() }
    }

    /// The next one; `None` when the daemon has told all.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not understood.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return match serde_json::from_slice(&line) {
                    Ok(value) => Ok(Some(value)),
                    Err(_) => Err(Error::Stream(io::ErrorKind::InvalidData.into())),
                };
            }
            if self.read.len() > MAX_LINE {
                return Err(Error::Stream(io::ErrorKind::InvalidData.into()));
            }
            match self.body.frame().await {
                None if self.read.is_empty() => return Ok(None),
                None => return Err(Error::CutOff),
                Some(Ok(piece)) => {
                    if let Some(bytes) = piece.data_ref() {
                        self.read.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => return Err(Error::of_body(error)),
            }
        }
    }
}
