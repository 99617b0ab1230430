//! The shim's side of the control socket: who asks, what they ask, and what they are told.
//!
//! Each connection has a task that reads requests and one that writes replies; the
//! [supervisor](crate::supervisor) hears of them by one queue. Nothing of a connection is kept when its client
//! has gone. They come in by the [door](crate::door).

use std::rc::Rc;

use boxwood_state::control::{self, Exec, Reply, Request};
use boxwood_wire::frame::{self, Decoder, Kind};
use rustix::net::{Shutdown, shutdown};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::halves::{ReadHalf, WriteHalf};
use crate::hangup::{HangUp, has_gone};
use crate::link::StreamWriter;
use crate::output::{Outgoing, QUEUE, Sender};
use crate::room::{Room, Seat};

/// A client's connection.
pub(crate) type Connection = (ReadHalf, WriteHalf);

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
    pub(crate) read: ReadHalf,
    pub(crate) decoder: Decoder,
    /// Closed when the client has gone.
    pub(crate) reply: Sender,
    pub(crate) seat: Rc<Seat>,
}

/// Lets a client in: a task reads what it asks, and one writes what it is told.
pub(crate) fn welcome((read, write): Connection, room: &Rc<Room>, asked: mpsc::Sender<Asked>) {
    let (reply, replies) = mpsc::channel(QUEUE);
    let seat = room.seat(&reply);
    let (hang_up, heard) = oneshot::channel();
    tokio::task::spawn_local(deliver(write, replies, gone(heard), Some(seat.clone())));
    tokio::task::spawn_local(serve(Visitor { read, reply, hang_up, seat }, asked));
}

/// Main's standard input, open once main was asked for: what comes first on main's stream is the
/// request to start it.
#[derive(Debug)]
pub(crate) struct MainStdin {
    pub(crate) writer: StreamWriter,
    pub(crate) asked_for: oneshot::Receiver<()>,
}

/// Takes the connection that the box was started with: its bytes are main's standard input.
pub(crate) fn adopt_starter((read, write): Connection, stdin: Option<MainStdin>) -> Sender {
    tokio::task::spawn_local(async move {
        let writer = match stdin {
            // Without the request there is no main, and so no standard input.
            Some(stdin) => stdin.asked_for.await.ok().map(|()| stdin.writer),
            None => None,
        };
        feed(read, Decoder::new(), (writer, std::future::pending())).await;
    });
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_local(deliver(write, receiver, std::future::pending(), None));
    sender
}

/// Lets a client that attached later have main's standard input, too, if there is any. It is never
/// cut off in the middle of a frame: what it began to send is sent whole.
pub(crate) fn feed_main(caller: Caller, stdin: Option<StreamWriter>) {
    let Caller { read, decoder, reply, seat } = caller;
    tokio::task::spawn_local(async move {
        feed(read, decoder, (stdin, reply.closed())).await;
        drop(seat);
    });
}

/// Tells the supervisor when the client that the box was started for goes, however it goes: the
/// client holds the other end of this pipe for life (contract H7). Its connection can't tell that,
/// because nobody reads from it while main does not read its standard input.
pub(crate) fn watch_starter(alive: pipe::Receiver, asked: &mpsc::Sender<Asked>) {
    // Not one of those who may ask until the end.
    let asked = asked.downgrade();
    tokio::task::spawn_local(async move {
        let mut alive = alive;
        let mut buffer = [0];
        while matches!(alive.read(&mut buffer).await, Ok(count) if count > 0) {}
        // The supervisor has gone only when the box has ended.
        if let Some(asked) = asked.upgrade() {
            let _ = asked.send(Asked::StarterGone).await;
        }
    });
}

/// A reply as it is queued for a client.
pub(crate) fn frame(reply: &Reply) -> Rc<Vec<u8>> {
    let frame = control::encode(Kind::Reply, reply);
    Rc::new(frame.expect("replies are small: their longest text is a console's tail"))
}

/// Writes what a client is told, until nobody has anything to tell it any more, or it has gone.
async fn deliver(
    mut write: WriteHalf,
    mut receiver: mpsc::Receiver<Outgoing>,
    gone: impl Future<Output = ()>,
    seat: Option<Rc<Seat>>,
) {
    tokio::pin!(gone);
    loop {
        let outgoing = tokio::select! {
            biased;
            outgoing = receiver.recv() => outgoing,
            () = &mut gone => return,
        };
        let (bytes, last) = match outgoing {
            Some(Outgoing::Frame(bytes)) => (bytes, false),
            Some(Outgoing::Last(bytes)) => (bytes, true),
            None => return,
        };
        if write.write_all(&bytes).await.is_err() || last {
            return;
        }
        seat.as_ref().inspect(|seat| seat.answered());
    }
}

/// Returns when a client has gone: by its hang-up, which is listened to once nothing else tells, or because
/// nobody listens to it any more.
async fn gone(hang_up: oneshot::Receiver<HangUp>) {
    if let Ok(hang_up) = hang_up.await {
        hang_up.heard().await;
    }
}

/// A client that has come.
struct Visitor {
    read: ReadHalf,
    reply: Sender,
    /// Where its hang-up goes.
    hang_up: oneshot::Sender<HangUp>,
    seat: Rc<Seat>,
}

/// Hands on what a client asks. One that sends what is no frame, or no request we know, is hung up on.
async fn serve(visitor: Visitor, asked: mpsc::Sender<Asked>) {
    let Visitor { mut read, reply, hang_up, seat } = visitor;
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 4096];
    // How much of the buffer was read last, and how much of that is in no frame yet.
    let (mut last, mut rest) = (0, 0);
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) if frame.kind == Kind::Request => {
                rest -= frame::HEADER + frame.payload.len();
                let Ok(request) = control::decode(&frame.payload) else { return };
                // Who has given up waiting is not to be surprised.
                if goes_with_its_client(&request) && has_gone(&read) {
                    return;
                }
                seat.asked();
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
                let Ok(heard) = HangUp::of(&read) else { return };
                let _ = hang_up.send(heard);
                seat.settle();
                // A new decoder, since the old one has the room that the request took.
                let mut decoder = Decoder::new();
                decoder.push(&buffer[last - rest..last]);
                let caller = Caller { read, decoder, reply, seat };
                // The supervisor has gone only when the box has ended.
                let _ = asked.send(Asked::Streams(wanted, caller)).await;
                return;
            }
            Ok(None) => tokio::select! {
                biased;
                count = read.read(&mut buffer) => match count {
                    Ok(count) if count > 0 => {
                        (last, rest) = (count, rest + count);
                        decoder.push(&buffer[..count]);
                    }
                    _ => break,
                },
                // What it has sent before is heard still, and then the end.
                () = seat.must_go() => drop(shutdown(&read, Shutdown::Read)),
            },
            Ok(Some(_)) | Err(_) => return,
        }
    }
    // It asks no more, and may still wait for an answer: until it goes, too.
    if reply.strong_count() > 1
        && let Ok(heard) = HangUp::of(&read)
    {
        let _ = hang_up.send(heard);
    }
}

/// Whether nothing is to be done for a client that has gone before it was heard. What ends a box is done all the
/// same, as is what is written down already.
fn goes_with_its_client(request: &Request) -> bool {
    match request {
        Request::Exec { .. }
        | Request::Attach
        | Request::Replay
        | Request::Pause
        | Request::Unpause
        | Request::Capture { .. } => true,
        Request::Wait
        | Request::Result
        | Request::Signal { .. }
        | Request::Stop { .. }
        | Request::Kill
        | Request::Session { .. }
        | Request::Resize { .. }
        | Request::Usage
        | Request::Reload
        | Request::Report { .. }
        | Request::Release => false,
    }
}

/// Carries a client's standard input to main until the client goes. What it has begun to send is sent whole.
async fn feed(
    mut read: ReadHalf,
    mut decoder: Decoder,
    (mut stdin, gone): (Option<StreamWriter>, impl Future<Output = ()>),
) {
    tokio::pin!(gone);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) if matches!(frame.kind, Kind::Stdin | Kind::StdinEof) => {
                let Some(writer) = &stdin else { continue };
                let mut sending = Box::pin(writer.send_frame(frame.kind, &frame.payload));
                let sent = tokio::select! {
                    biased;
                    sent = &mut sending => sent,
                    () = &mut gone => {
                        // Nothing of its connection is kept for a main that does not read.
                        drop(read);
                        let _ = sending.await;
                        return;
                    }
                };
                drop(sending);
                if sent.is_err() {
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
