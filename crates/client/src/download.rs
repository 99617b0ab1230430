//! A body that is read as it comes, however long it is.

use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use crate::request::Asked;
use crate::{Client, Error};

/// What a daemon sends, piece by piece.
#[derive(Debug)]
pub struct Download(Incoming);

impl Client {
    /// Asks for a body of any length, and to be told why should it not be whole.
    pub(crate) async fn download(&self, path: String) -> Result<Download, Error> {
        let mut asked = Asked::plain(Method::GET, path);
        asked.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        asked.headers.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        let answer = self.send(asked).await?;
        Ok(Download(answer.into_body()))
    }
}

impl Download {
    /// The next piece; `None` when it is whole.
    ///
    /// # Errors
    /// When it is cut off, or the daemon says why there is no more of it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.0.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::of_body(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(other) => other.trailers_ref().map_or(Ok(()), check_end)?,
                },
            }
        }
    }
}

/// Whether what comes behind a body does not say that it is not whole.
fn check_end(trailers: &HeaderMap) -> Result<(), Error> {
    match trailers
        .get(boxwood_api::PROBLEM_TRAILER)
        .map(|why| serde_json::from_slice(why.as_bytes()))
    {
        None => Ok(()),
        Some(Ok(why)) => Err(Error::Refused(why)),
        Some(Err(_)) => Err(Error::CutOff),
    }
}
