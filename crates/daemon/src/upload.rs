//! A body as something that blocks while it is read: archives are read on a thread of their own, a few
//! pieces behind the client, never as a whole. Called by `routes::images` and
//! `routes::carry`.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::Body;
use boxwood_api::ErrorKind;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Buf, Bytes};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::app::{App, blocking};
use crate::error::ApiError;

/// Pieces that wait for the reader.
const WAITING: usize = 4;
/// How long a client may send nothing.
const IDLE: Duration = Duration::from_secs(60);

/// A body, to be read on a thread that may block.
#[derive(Debug)]
pub(crate) struct Upload {
    pieces: Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

/// Reads a body while it comes.
pub(crate) async fn uploaded<T: Send + 'static>(
    app: &App,
    body: Body,
    read: impl FnOnce(App, Upload) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (archive, pump) = stream(body, app.ending.due.clone());
    let own = app.clone();
    let (read, pumped) = tokio::join!(blocking(move || read(own, archive)), pump);
    // Where the body broke off, that is why it could not be used.
    match (read, pumped) {
        (Err(_), Err(why)) => Err(why),
        (read, _) => read,
    }
}

/// A body's reader, and what feeds it until the body has ended or nobody reads it any more.
fn stream(
    body: Body,
    due: CancellationToken,
) -> (Upload, impl Future<Output = Result<(), ApiError>>) {
    let (sender, pieces) = channel(WAITING);
    (Upload { pieces, piece: Bytes::new() }, feed(body, sender, due))
}

async fn feed(
    mut body: Body,
    sender: Sender<io::Result<Bytes>>,
    due: CancellationToken,
) -> Result<(), ApiError> {
    let failed = loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(IDLE, body.frame()) => frame,
            () = due.cancelled() => break ApiError::stopping(),
        };
        let piece = match frame {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => frame.into_data(),
            Ok(Some(Err(_))) => break ApiError::bad("the body broke off"),
            Err(_) => {
                let message = format!("nothing of the body came for {} s", IDLE.as_secs());
                let status = StatusCode::REQUEST_TIMEOUT;
                break ApiError::new(status, ErrorKind::RequestTimeout, message);
            }
        };
        let Ok(piece) = piece else { continue };
        if sender.send(Ok(piece)).await.is_err() {
            // The reader has enough, or has found out that it is no archive.
            return Ok(());
        }
    };
    // The reader must not take what came for all of it.
    let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
    Err(failed)
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.piece.has_remaining() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
