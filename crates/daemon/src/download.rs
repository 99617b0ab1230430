//! A body that is written by something that blocks: an archive is made on a thread of its own, a piece ahead of
//! the client, never as a whole. Called by `routes::carry`.

use std::io::{self, Write};

use axum::body::Body;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::ApiError;
use crate::follow::{Cut, gone};
use crate::serve::complain;

/// Pieces that wait for a client.
const WAITING: usize = 1;
/// The largest piece, in bytes.
const PIECE: usize = 64 << 10;

/// Where a body is written to, on a thread that may block.
struct Download {
    body: Sender<Bytes, Cut>,
    runtime: Handle,
    due: CancellationToken,
    /// Told when there is something to be sent; nothing when it was.
    begun: Option<oneshot::Sender<()>>,
    /// The client or the daemon goes.
    given_up: bool,
}

/// Answers with what is written, once there is something: what fails before is the answer. What fails later cuts
/// the body off.
pub(crate) async fn downloaded(
    app: &App,
    write: impl FnOnce(&App, &mut dyn Write) -> Result<(), ApiError> + Send + 'static,
) -> Result<Body, ApiError> {
    let (begun, begins) = oneshot::channel();
    let (sender, body) = Channel::new(WAITING);
    let due = app.ending.due.clone();
    let mut out = Download {
        body: sender,
        runtime: Handle::current(),
        due,
        begun: Some(begun),
        given_up: false,
    };
    let own = app.clone();
    let written = spawn_blocking(move || {
        let written = write(&own, &mut out);
        out.end(written)
    });
    if begins.await.is_ok() {
        return Ok(Body::new(body));
    }
    match written.await {
        Ok(Ok(())) => Ok(Body::empty()),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}

impl Download {
    /// It is whole, or something failed; that is the answer where none was begun.
    fn end(mut self, written: Result<(), ApiError>) -> Result<(), ApiError> {
        match (written, self.begun.take()) {
            (Err(error), None) => {
                // The client hears that there is more, and not why it does not come.
                if !self.given_up {
                    complain(&format!("a body breaks off: {}", error.message()));
                }
                self.body.abort(gone());
                Ok(())
            }
            (written, _) => written,
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
