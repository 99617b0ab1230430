//! A connection that has become the standard streams of a process in a box: frames, carried between a
//! client and a shim. Called by `routes::exec` and `routes::attach`.
//!
//! Nothing is kept here: what one side does not take stays in the other's socket, so a slow client
//! slows its own process and no other (contract G5). A connection that ends is a client that has died
//! (contracts G6 and H7); the end of standard input is a frame.

use std::io;

use boxwood_runtime::state::control::{self, Reply};
use boxwood_runtime::{Error, FromShim, ShimReader, ShimWriter};
use boxwood_types::BoxState;
use boxwood_wire::frame::{self, Decoder, Kind};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, HangUp};

/// How carrying ended.
#[derive(Debug)]
pub(crate) enum Parting {
    /// This was the last word to the client.
    Told(Reply),
    /// The shim hung up without one.
    HungUp,
    /// The client has gone, or sent what it must not.
    ClientGone,
    /// The daemon ends.
    Due,
}

/// A client's end.
#[derive(Debug)]
pub(crate) struct Stream {
    read: ReadHalf<Connection>,
    write: WriteHalf<Connection>,
    decoder: Decoder,
    hang_up: HangUp,
}

impl Stream {
    /// Waits until the answer that says so is sent, and takes the connection.
    pub(crate) async fn of(upgrade: OnUpgrade) -> io::Result<Stream> {
        let upgraded: Upgraded = upgrade.await.map_err(io::Error::other)?;
        let parts = upgraded
            .downcast::<TokioIo<Connection>>()
            .map_err(|_| io::Error::other("it came over another connection"))?;
        let connection = parts.io.into_inner();
        let hang_up = connection.hang_up()?;
        let mut decoder = Decoder::new();
        decoder.push(&parts.read_buf);
        let (read, write) = tokio::io::split(connection);
        Ok(Stream { read, write, decoder, hang_up })
    }

    /// Carries frames until one side ends. `heard` is told every reply.
    pub(crate) async fn carry(
        mut self,
        reader: &mut ShimReader,
        writer: &mut ShimWriter,
        due: &CancellationToken,
        heard: &mut (dyn FnMut(&Reply) + Send),
    ) -> Parting {
        let parting = {
            let outward = carry_output(reader, &mut self.write, heard);
            let inward = carry_input(&mut self.read, &mut self.decoder, writer);
            tokio::select! {
                biased;
                parting = outward => parting,
                () = inward => Parting::ClientGone,
                () = self.hang_up.heard() => Parting::ClientGone,
                () = due.cancelled() => Parting::Due,
            }
        };
        if matches!(parting, Parting::Told(_) | Parting::HungUp) {
            // A client that has gone meanwhile needs no farewell.
            let _ = self.write.shutdown().await;
        }
        parting
    }
}

/// Carries what the shim says to the client, until its last word.
async fn carry_output(
    reader: &mut ShimReader,
    write: &mut WriteHalf<Connection>,
    heard: &mut (dyn FnMut(&Reply) + Send),
) -> Parting {
    loop {
        let said = match reader.next().await {
            Ok(Some(said)) => said,
            Ok(None) | Err(Error::ShimProtocol { .. } | Error::Connection { .. }) => {
                return Parting::HungUp;
            }
            // The connection is no answer any more that could have a status.
            Err(error) => {
                let (state, message) = (BoxState::Running, error.to_string());
                FromShim::Reply(Reply::Refused { state, message })
            }
        };
        let (bytes, last) = match said {
            FromShim::Stdout(bytes) => (bytes_frame(Kind::Stdout, &bytes), None),
            FromShim::Stderr(bytes) => (bytes_frame(Kind::Stderr, &bytes), None),
            FromShim::Reply(reply) => {
                heard(&reply);
                let bytes = control::encode(Kind::Reply, &reply);
                let bytes = bytes.expect("it came in a frame");
                (bytes, Some(reply).filter(is_last))
            }
        };
        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
            return Parting::ClientGone;
        }
        if let Some(reply) = last {
            return Parting::Told(reply);
        }
    }
}

fn is_last(reply: &Reply) -> bool {
    matches!(reply, Reply::Ended { .. } | Reply::SessionEnded { .. } | Reply::Refused { .. })
}

/// Bytes as a frame.
pub(crate) fn bytes_frame(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let mut whole = frame::header(kind, bytes.len()).to_vec();
    whole.extend_from_slice(bytes);
    whole
}

/// Carries what the client sends to the shim. Returns when the client has gone or has sent what is no
/// input.
async fn carry_input(
    read: &mut (impl AsyncRead + Unpin),
    decoder: &mut Decoder,
    writer: &mut ShimWriter,
) {
    let mut buffer = vec![0; frame::MAX_BYTES];
    loop {
        let sent = match decoder.next_frame() {
            Ok(Some(frame)) => match frame.kind {
                Kind::Stdin => writer.stdin(&frame.payload).await,
                Kind::StdinEof => writer.stdin_eof().await,
                _ => return,
            },
            Ok(None) => match read.read(&mut buffer).await {
                Ok(count) if count > 0 => {
                    decoder.push(&buffer[..count]);
                    continue;
                }
                _ => return,
            },
            Err(_) => return,
        };
        if sent.is_err() {
            // The shim's last word is on its way.
            return std::future::pending().await;
        }
    }
}
