//! One request and its answer.

use boxwood_api::ErrorBody;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{Client, Error, Host, Lines};

/// What a request carries.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// The largest answer that is no stream, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// A body that is read as it is sent.
pub fn body(reader: impl AsyncRead + Send + 'static) -> Body {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let mut reader = std::pin::pin!(reader);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => return,
                Ok(count) => {
                    let piece = Bytes::copy_from_slice(&buffer[..count]);
                    if sender.send_data(piece).await.is_err() {
                        // The daemon has enough, and says why.
                        return;
                    }
                }
                Err(error) => return sender.abort(error),
            }
        }
    });
    BoxBody::new(body)
}

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Asked {
    /// Without a body.
    pub(crate) fn plain(method: Method, path: impl Into<String>) -> Self {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        Asked { method, path: path.into(), headers: HeaderMap::new(), body }
    }

    /// With JSON.
    pub(crate) fn json(path: impl Into<String>, value: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(value).expect("plain data always encodes");
        let body = Full::from(bytes).map_err(|never| match never {}).boxed();
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, kind);
        Asked { method: Method::POST, path: path.into(), headers, body }
    }
}

impl Client {
    /// Sends a request. Every answer that is no success is an error.
    pub(crate) async fn send(&self, asked: Asked) -> Result<Response<Incoming>, Error> {
        let wire = self.host.connect(&self.secrets).await?;
        let broken = |source: hyper::Error| {
            let host = self.host.to_string();
            match &self.host {
                Host::Http(_) if source.is_parse() => Error::NoHttp { host, source },
                _ => Error::Broken { host, source },
            }
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(wire)).await.map_err(broken)?;
        // It goes with its last answer; why it broke is told by the request.
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::new(asked.body);
        *request.method_mut() = asked.method;
        *request.uri_mut() = asked.path.parse().map_err(|_| self.protocol())?;
        *request.headers_mut() = asked.headers;
        let authority = HeaderValue::from_str(self.host.authority());
        let headers = request.headers_mut();
        headers.insert(header::HOST, authority.map_err(|_| self.protocol())?);
        if let Some(token) = self.secrets.token(&self.host)? {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
            headers.insert(header::AUTHORIZATION, bearer.map_err(|_| self.protocol())?);
        }
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let bytes = self.collect(answer).await?;
        let body: ErrorBody = serde_json::from_slice(&bytes).map_err(|_| self.protocol())?;
        if status == StatusCode::UNAUTHORIZED {
            let (host, file) = (self.host.to_string(), &self.secrets.token_file);
            let token = file.as_ref().map(|path| path.display().to_string());
            return Err(Error::Unauthorized { host, token });
        }
        Err(Error::Refused(body.error))
    }

    /// Sends a request and understands its answer.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, asked: Asked) -> Result<T, Error> {
        let answer = self.send(asked).await?;
        let bytes = self.collect(answer).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.protocol())
    }

    /// Asks for text.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Error> {
        let answer = self.send(Asked::plain(Method::GET, path)).await?;
        let bytes = self.collect(answer).await?;
        String::from_utf8(bytes.into()).map_err(|_| self.protocol())
    }

    /// Asks for lines.
    pub(crate) async fn lines(&self, path: String) -> Result<Lines, Error> {
        let answer = self.send(Asked::plain(Method::GET, path)).await?;
        Ok(Lines::of(answer.into_body()))
    }

    /// Sends a request whose answer says nothing.
    pub(crate) async fn tell(&self, asked: Asked) -> Result<(), Error> {
        self.send(asked).await.map(drop)
    }

    async fn collect(&self, answer: Response<Incoming>) -> Result<Bytes, Error> {
        let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER);
        Ok(body.collect().await.map_err(|_| self.protocol())?.to_bytes())
    }

    pub(crate) fn protocol(&self) -> Error {
        Error::Protocol { host: self.host.to_string() }
    }
}
