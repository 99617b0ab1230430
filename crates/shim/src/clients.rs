//! The shim's side of the control socket: who asks, what they ask, and what they are told.
//!
//! Each connection has a task that reads requests and one that writes replies; the
//! [supervisor](crate::supervisor) hears of them by one queue.

use std::io;
use std::rc::Rc;

use boxwood_state::control::{self, Exec, Reply, Request};
use boxwood_wire::frame::{Decoder, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::hangup::HangUp;
use crate::link::StreamWriter;
use crate::output::{Outgoing, QUEUE, Sender};

/// Connections that wait for the supervisor.
const ASKED: usize = 64;

/// What the supervisor hears.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A client wants something; the answer goes to its queue.
    Request(Request, Sender),
    /// A client wants its connection to become a process's standard streams.
    Streams(Wanted, Caller),
    /// The client the box was started for has gone.
    StarterGone,
}

/// Whose standard streams a client wants.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Those of a new process beside main.
    Session(Box<Exec>),
    /// Main's, too.
    Main(Past),
}

/// What becomes of what main wrote before its client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// The client does without.
    Dropped,
    /// It is told first.
    Told,
}

/// A client whose connection is to carry standard streams.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) read: OwnedReadHalf,
    pub(crate) decoder: Decoder,
    pub(crate) reply: Sender,
    pub(crate) hang_up: HangUp,
}

/// Hands on what clients ask at the control socket.
///
/// # Errors
/// When the socket can't be used.
pub(crate) fn listen(
    listener: std::os::unix::net::UnixListener,
) -> io::Result<(mpsc::Sender<Asked>, mpsc::Receiver<Asked>)> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let (sender, receiver) = mpsc::channel(ASKED);
    let asked = sender.clone();
    tokio::task::spawn_local(async move {
        // Accepting fails only for want of descriptors or memory: then there is nobody to serve.
        while let Ok((connection, _)) = listener.accept().await {
            let (read, write) = connection.into_split();
            tokio::task::spawn_local(serve(read, queue(write), asked.clone()));
        }
    });
    Ok((sender, receiver))
}

/// Main's standard input, open once main was asked for: what comes first on main's stream is the
/// request to start it.
#[derive(Debug)]
pub(crate) struct MainStdin {
    pub(crate) writer: StreamWriter,
    pub(crate) asked_for: oneshot::Receiver<()>,
}

/// Takes the connection that the box was started with: its bytes are main's standard input.
pub(crate) fn adopt_starter(connection: UnixStream, stdin: Option<MainStdin>) -> Sender {
    let (read, write) = connection.into_split();
    tokio::task::spawn_local(async move {
        let writer = match stdin {
            // Without the request there is no main, and so no standard input.
            Some(stdin) => stdin.asked_for.await.ok().map(|()| stdin.writer),
            None => None,
        };
        feed(read, Decoder::new(), writer).await;
    });
    queue(write)
}

/// Lets a client that attached later have main's standard input, too, if there is any. It is never
/// cut off in the middle of a frame: what it began to send is sent whole.
pub(crate) fn feed_main(caller: Caller, stdin: Option<StreamWriter>) {
    let Caller { read, decoder, .. } = caller;
    tokio::task::spawn_local(feed(read, decoder, stdin));
}

/// Tells the supervisor when the client that the box was started for goes, however it goes: the
/// client holds the other end of this pipe for life (contract H7). Its connection can't tell that,
/// because nobody reads from it while main does not read its standard input.
pub(crate) fn watch_starter(alive: pipe::Receiver, asked: mpsc::Sender<Asked>) {
    tokio::task::spawn_local(async move {
        let mut alive = alive;
        let mut buffer = [0];
        while matches!(alive.read(&mut buffer).await, Ok(count) if count > 0) {}
        // The supervisor has gone only when the box has ended.
        let _ = asked.send(Asked::StarterGone).await;
    });
}

/// A reply as it is queued for a client.
pub(crate) fn frame(reply: &Reply) -> Rc<Vec<u8>> {
    let frame = control::encode(Kind::Reply, reply);
    Rc::new(frame.expect("replies are small: their longest text is a console's tail"))
}

fn queue(mut write: OwnedWriteHalf) -> Sender {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_local(async move {
        while let Some(outgoing) = receiver.recv().await {
            let (bytes, last) = match outgoing {
                Outgoing::Frame(bytes) => (bytes, false),
                Outgoing::Last(bytes) => (bytes, true),
            };
            if write.write_all(&bytes).await.is_err() || last {
                return;
            }
        }
    });
    sender
}

async fn serve(mut read: OwnedReadHalf, reply: Sender, asked: mpsc::Sender<Asked>) {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 4096];
    loop {
        // A client that sends what is no frame, or no request we know, is hung up on.
        match decoder.next_frame() {
            Ok(Some(frame)) if frame.kind == Kind::Request => {
                let Ok(request) = control::decode(&frame.payload) else { return };
                let wanted = match request {
                    Request::Exec { exec } => Wanted::Session(Box::new(exec)),
                    Request::Attach => Wanted::Main(Past::Dropped),
                    Request::Replay => Wanted::Main(Past::Told),
                    other => {
                        if asked.send(Asked::Request(other, reply.clone())).await.is_err() {
                            return;
                        }
                        continue;
                    }
                };
                let Ok(hang_up) = HangUp::of(&read) else { return };
                let caller = Caller { read, decoder, reply, hang_up };
                // The supervisor has gone only when the box has ended.
                let _ = asked.send(Asked::Streams(wanted, caller)).await;
                return;
            }
            Ok(None) => match read.read(&mut buffer).await {
                Ok(count) if count > 0 => decoder.push(&buffer[..count]),
                _ => return,
            },
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

/// Carries a client's standard input to main until the client goes.
async fn feed(mut read: OwnedReadHalf, mut decoder: Decoder, mut stdin: Option<StreamWriter>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) if matches!(frame.kind, Kind::Stdin | Kind::StdinEof) => {
                let Some(writer) = &stdin else { continue };
                if writer.send_frame(frame.kind, &frame.payload).await.is_err() {
                    // Main has ended: what is still typed goes nowhere, as on a closed pipe.
                    stdin = None;
                }
            }
            Ok(None) => match read.read(&mut buffer).await {
                Ok(count) if count > 0 => decoder.push(&buffer[..count]),
                _ => return,
            },
            Ok(Some(_)) | Err(_) => return,
        }
    }
}
