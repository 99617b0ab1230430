//! A body that is read as it comes, however long it is.

use http::Method;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use crate::request::Asked;
use crate::{Client, Error};

/// What a daemon sends, piece by piece.
#[derive(Debug)]
pub struct Download(Incoming);

impl Client {
    /// Asks for a body of any length.
    pub(crate) async fn download(&self, path: String) -> Result<Download, Error> {
        let answer = self.send(Asked::plain(Method::GET, path)).await?;
        Ok(Download(answer.into_body()))
    }
}

impl Download {
    /// The next piece; `None` when it is whole.
    ///
    /// # Errors
    /// When it is cut off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.0.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::of_body(error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}
