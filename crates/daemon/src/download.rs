//! A body that is written by something that blocks: an archive is made on a thread of its own, a piece ahead of
//! the client, never as a whole. Called by `routes::carry`.

use std::io::{self, Write};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use boxwood_api::Problem;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::ApiError;
use crate::extract::has_token;
use crate::follow::{Cut, gone};
use crate::serve::complain;

/// Pieces that wait for a client.
const WAITING: usize = 1;
/// The largest piece, in bytes.
const PIECE: usize = 64 << 10;

/// What a client hears of a body that is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It breaks off.
    Mute,
    /// Why, behind what there is: the client has said that it reads that.
    Telling,
}

impl Ends {
    /// As these headers of a request say (RFC 9110, section 10.1.4).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if has_token(headers, &header::TE, "trailers") { Ends::Telling } else { Ends::Mute }
    }
}

/// Where a body is written to, on a thread that may block.
struct Download {
    body: Sender<Bytes, Cut>,
    runtime: Handle,
    due: CancellationToken,
    /// Told when there is something to be sent; nothing when it was.
    begun: Option<oneshot::Sender<()>>,
    /// The client or the daemon goes.
    given_up: bool,
    ends: Ends,
}

/// Answers with what is written, once there is something: what fails before is the answer. What fails later ends
/// the body before its time.
pub(crate) async fn downloaded(
    app: &App,
    ends: Ends,
    write: impl FnOnce(&App, &mut dyn Write) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (begun, begins) = oneshot::channel();
    let (sender, body) = Channel::new(WAITING);
    let due = app.ending.due.clone();
    let mut out = Download {
        body: sender,
        runtime: Handle::current(),
        due,
        begun: Some(begun),
        given_up: false,
        ends,
    };
    let own = app.clone();
    let written = spawn_blocking(move || {
        let written = write(&own, &mut out);
        out.end(written)
    });
    if begins.await.is_ok() {
        let mut response = Body::new(body).into_response();
        if ends == Ends::Telling {
            let name = HeaderValue::from_static(boxwood_api::PROBLEM_TRAILER);
            response.headers_mut().insert(header::TRAILER, name);
        }
        return Ok(response);
    }
    match written.await {
        Ok(Ok(())) => Ok(Body::empty().into_response()),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}

impl Download {
    /// It is whole, or something failed; that is the answer where none was begun.
    fn end(mut self, written: Result<(), ApiError>) -> Result<(), ApiError> {
        match (written, self.begun.take()) {
            (Err(error), None) => {
                self.break_off(error);
                Ok(())
            }
            (written, _) => written,
        }
    }

    /// It is not whole, for this reason.
    fn break_off(mut self, error: ApiError) {
        if !self.given_up {
            complain(&format!("a body breaks off: {}", error.message()));
        }
        if self.given_up || self.ends == Ends::Mute {
            return self.body.abort(gone());
        }
        let why = serde_json::to_vec(&Problem::from(error)).expect("plain data always encodes");
        let why = HeaderValue::from_bytes(&why).expect("JSON has no control characters");
        let why =
            HeaderMap::from_iter([(HeaderName::from_static(boxwood_api::PROBLEM_TRAILER), why)]);
        let told = self.body.send_trailers(why);
        let told = self.runtime.block_on(async {
            tokio::select! {
                told = told => told.map_err(|_| gone()),
                () = self.due.cancelled() => Err(gone()),
            }
        });
        if let Err(error) = told {
            self.body.abort(error);
        }
    }
}

impl Write for Download {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        if let Some(begun) = self.begun.take() {
            // Who does not wait for it any more has dropped the body.
            let _ = begun.send(());
        }
        let sent = self.body.send_data(Bytes::copy_from_slice(piece));
        let sent = self.runtime.block_on(async {
            tokio::select! {
                sent = sent => sent.map_err(|_| gone()),
                () = self.due.cancelled() => Err(gone()),
            }
        });
        self.given_up = sent.is_err();
        sent.map(|()| piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
