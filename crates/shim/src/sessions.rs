//! Sessions beside main: each a stream of the guest's and a client's connection, and a task that
//! carries frames between them. Begun by the [supervisor](crate::supervisor).
//!
//! Nothing is kept here: what one side does not take stays in the other's window or socket, so a slow
//! client slows its own session and no other (contract G5). When the client goes, the stream is
//! aborted, and the guest ends the session (contract G6).

use std::rc::Rc;
use std::time::Duration;

use boxwood_state::control::{Exec, Reply, SessionEnd};
use boxwood_state::{Client, Text};
use boxwood_wire::frame::{self, EXEC_PORT, Frame, Kind, PTY_PORT};
use boxwood_wire::message::{Attachment, Decline, ProcessReply, StartSession};
use tokio::task::JoinSet;

use crate::announcer::Announcer;
use crate::clients::{self, Caller};
use crate::greeting::shorten;
use crate::halves::ReadHalf;
use crate::link::{Link, LinkError, Stream, StreamWriter};
use crate::main_io::{self, words};
use crate::news::{News, Untold};
use crate::output::{Outgoing, Sender};
use crate::patience::{Late, Patience};
use crate::sys;

/// Bytes of a command that are told of it.
const SUMMARY: usize = 4096;
/// A request with more than this, in bytes, takes so much memory that it is given back.
const LARGE: usize = 256 << 10;

/// What the tasks of sessions leave behind: a client whose box ended under its session.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    tasks: JoinSet<Option<Sender>>,
    untold: Untold,
    bereaved: Vec<Sender>,
}

impl Relays {
    /// Lets a task of a client go on, which leaves the client to hear of the box's end.
    pub(crate) fn adopt(&mut self, task: impl Future<Output = Option<Sender>> + 'static) {
        // Those that have ended meanwhile.
        while let Some(ended) = self.tasks.try_join_next() {
            self.bereaved.extend(ended.ok().flatten());
        }
        self.bereaved.retain(|client| !client.is_closed());
        self.tasks.spawn_local(task);
    }

    /// Begins a session: its client is answered by a task of its own.
    pub(crate) fn begin(
        &mut self,
        link: &Link,
        exec: &Exec,
        caller: Caller,
        announcer: &Announcer,
    ) {
        let port = if exec.process.terminal.is_some() { PTY_PORT } else { EXEC_PORT };
        match link.open(port) {
            Ok(stream) => {
                let start = StartSession {
                    process: main_io::process(&exec.process),
                    timeout_ms: exec.timeout_ms,
                    attachment: match exec.client {
                        Client::Attached => Attachment::Attached,
                        // A process that was asked for is started, so there is no later.
                        Client::Detached | Client::Later => Attachment::Detached,
                    },
                };
                let news = News::of(announcer, stream.id(), summary(&exec.process.argv));
                self.untold.keep(&news);
                self.adopt(relay(start, stream, caller, (news, self.untold.clone())));
            }
            Err(error) => {
                let end = SessionEnd::Failed { reason: words(&error) };
                let last = Outgoing::Last(clients::frame(&Reply::SessionEnded { end }));
                // The first word to this client: there is room for it.
                let _ = caller.reply.try_send(last);
            }
        }
    }

    /// The sessions whose end was not told yet.
    pub(crate) fn untold(&self) -> Untold {
        self.untold.clone()
    }

    /// The clients whose sessions ended with the box, as their tasks end.
    pub(crate) fn into_bereaved(self) -> (Vec<Sender>, JoinSet<Option<Sender>>) {
        (self.bereaved, self.tasks)
    }
}

/// The beginning of a command, or all of it.
fn summary(argv: &[Text]) -> String {
    let mut summary = String::new();
    for (at, word) in argv.iter().enumerate() {
        if at > 0 {
            summary.push(' ');
        }
        // No character has more bytes than 4: what is cut off in here is cut off below.
        let some = word.0.len().min(SUMMARY + 4);
        summary.push_str(&Text(word.0[..some].to_vec()).display());
        if summary.len() > SUMMARY {
            summary.truncate(summary.floor_char_boundary(SUMMARY));
            summary.push('…');
            break;
        }
    }
    summary
}

/// Whether a request took much memory: each text has its own, however short it is.
fn is_large(start: &StartSession) -> bool {
    let texts = start.process.argv.iter().chain(&start.process.env);
    texts.map(|text| text.len() + size_of::<Text>()).sum::<usize>() > LARGE
}

/// Why frames are no longer carried.
enum End {
    /// This is the last that the client is told; the guest has closed the stream.
    Told(Reply),
    /// The same, and the session goes on without its stream.
    Released(Reply),
    /// There is nobody to tell.
    ClientGone,
    /// The box has ended, and how is told when it is known.
    BoxEnded,
}

/// Carries frames until one side ends. Returns the client if it is still to hear of the box's end.
async fn relay(
    start: StartSession,
    stream: Stream,
    caller: Caller,
    (news, untold): (Rc<News>, Untold),
) -> Option<Sender> {
    let Caller { mut read, mut decoder, reply, seat: _seat } = caller;
    let writer = stream.writer();
    let timeout = start.timeout_ms.map(Duration::from_millis);
    let mut guest = Listening { patience: Patience::begin(timeout, stream.time().now()), stream };
    let attachment = start.attachment;
    let end = {
        let inward = async {
            let start = start;
            let sent = writer.send_value(&start).await;
            // The guest begins with it while that is told.
            tokio::task::yield_now().await;
            news.created();
            let large = is_large(&start);
            drop(start);
            if large {
                sys::give_memory_back();
            }
            match sent {
                Err(LinkError::Frame(error)) => {
                    let reason = boxwood_types::chain(&*error);
                    return End::Told(Reply::SessionEnded { end: SessionEnd::Failed { reason } });
                }
                // The guest's side of the stream says why.
                Err(_) => return std::future::pending().await,
                Ok(()) => {}
            }
            carry_input(&mut read, &mut decoder, &writer).await;
            End::ClientGone
        };
        tokio::select! {
            biased;
            end = carry_output(&mut guest, &reply, attachment, &news) => end,
            end = inward => end,
            () = reply.closed() => End::ClientGone,
        }
    };
    news.created();
    let last = match end {
        End::Told(last) => last,
        End::Released(last) => {
            guest.stream.abort();
            last
        }
        // The guest tells of its end by itself.
        End::ClientGone => {
            guest.stream.abort();
            return None;
        }
        End::BoxEnded => return Some(reply),
    };
    if let Reply::SessionEnded { end } = &last {
        news.ended(end);
        untold.forget(&news);
    }
    // A client that has gone needs no last word.
    let _ = reply.send(Outgoing::Last(clients::frame(&last))).await;
    None
}

/// A session's stream, and how long its guest may take.
struct Listening {
    stream: Stream,
    patience: Patience,
}

impl Listening {
    /// The next thing the guest says; what is wrong with a guest that has not said it in time.
    async fn next_frame(&mut self) -> Result<Result<Option<Frame>, LinkError>, Late> {
        let Listening { stream, patience } = self;
        let time = stream.writer();
        let began = time.time().now();
        let Some(limit) = patience.limit(began) else { return Ok(stream.next_frame().await) };
        let heard = tokio::select! {
            biased;
            heard = stream.next_frame() => heard,
            () = time.time().reaches(limit) => return Err(patience.late()),
        };
        let bytes =
            heard.as_ref().ok().and_then(Option::as_ref).map_or(0, |frame| frame.payload.len());
        patience.heard(bytes, (began, time.time().now()))?;
        Ok(heard)
    }
}

/// Carries what the guest says to the client.
async fn carry_output(
    guest: &mut Listening,
    reply: &Sender,
    attachment: Attachment,
    news: &News,
) -> End {
    let mut started = false;
    loop {
        let heard = match guest.next_frame().await {
            Ok(heard) => heard,
            Err(late) => return lost(late.to_string()),
        };
        let outgoing = match heard {
            Ok(Some(Frame { kind: kind @ (Kind::Stdout | Kind::Stderr), payload })) => {
                let mut whole = frame::header(kind, payload.len()).to_vec();
                whole.extend_from_slice(&payload);
                Rc::new(whole)
            }
            Ok(Some(frame)) if frame.kind == Kind::Reply => {
                match understand(&frame.payload, attachment) {
                    Some(end) => return End::Told(Reply::SessionEnded { end }),
                    None if started => return lost("the guest started a session twice".to_owned()),
                    None => {
                        started = true;
                        guest.patience.started(guest.stream.time().now());
                        news.started();
                        let started = Reply::SessionStarted { session: guest.stream.id() };
                        match attachment {
                            Attachment::Attached => clients::frame(&started),
                            Attachment::Detached => return End::Released(started),
                        }
                    }
                }
            }
            Ok(_) => return lost("the guest broke the protocol of a session".to_owned()),
            // The guest gave this session up: of itself it does so only when it is asked nonsense.
            Err(error @ (LinkError::Aborted | LinkError::Frame(_))) => return lost(words(&error)),
            Err(_) => return End::BoxEnded,
        };
        if reply.send(Outgoing::Frame(outgoing)).await.is_err() {
            return End::ClientGone;
        }
    }
}

fn lost(reason: String) -> End {
    End::Released(Reply::SessionEnded { end: SessionEnd::Failed { reason } })
}

/// What a reply of the guest means for the client; `None` when it says that the process runs.
fn understand(payload: &[u8], attachment: Attachment) -> Option<SessionEnd> {
    let failed = |reason: String| Some(SessionEnd::Failed { reason });
    match frame::parse::<ProcessReply>(payload) {
        Ok(ProcessReply::Started) => None,
        Ok(ProcessReply::Exited { status }) => Some(SessionEnd::Exited { status }),
        Ok(ProcessReply::TimedOut) => Some(SessionEnd::TimedOut),
        Ok(ProcessReply::Refused { refusal, reason }) => {
            Some(SessionEnd::Refused { refusal, reason: shorten(reason) })
        }
        Ok(ProcessReply::Failed { step, reason }) => {
            failed(format!("the guest failed at '{}': {}", shorten(step), shorten(reason)))
        }
        Ok(ProcessReply::Declined(Decline::Leaving)) => {
            failed("its main has ended, and the box ends".to_owned())
        }
        Ok(ProcessReply::Declined(Decline::TooMany { limit })) => failed(match attachment {
            Attachment::Attached => {
                format!("it runs {limit} commands already, which is the limit")
            }
            Attachment::Detached => {
                format!("it has no place for another detached command: {limit} is the limit")
            }
        }),
        Ok(ProcessReply::Conflict) => failed("the guest answered about main".to_owned()),
        Err(error) => failed(boxwood_types::chain(&error)),
    }
}

/// Carries what the client sends to the guest. Returns when the client has broken the protocol; that
/// it has gone is heard elsewhere.
async fn carry_input(read: &mut ReadHalf, decoder: &mut frame::Decoder, writer: &StreamWriter) {
    let mut buffer = vec![0; frame::MAX_BYTES];
    loop {
        match decoder.next_frame() {
            Ok(Some(Frame { kind: kind @ (Kind::Stdin | Kind::StdinEof), payload })) => {
                if writer.send_frame(kind, &payload).await.is_err() {
                    // The session's end is on its way, and with it this task's.
                    return std::future::pending().await;
                }
            }
            Ok(None) => match read.read(&mut buffer).await {
                Ok(count) if count > 0 => decoder.push(&buffer[..count]),
                // It sends no more; whether it still listens is heard elsewhere.
                _ => return std::future::pending().await,
            },
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use boxwood_state::metrics::Counters;

    use super::*;
    use crate::guest_time::Cause;

    #[test]
    fn h12_of_a_long_command_the_beginning_is_told() {
        let text = |word: &str| Text::from(word);
        assert_eq!(summary(&[text("echo"), text("a b")]), "echo a b");
        for argv in [vec![text("é"); 600_000], vec![text("x"), text(&"é".repeat(1 << 20))]] {
            let told = summary(&argv);
            assert!((SUMMARY - 4..SUMMARY + 4).contains(&told.len()), "{}", told.len());
            assert!(told.ends_with('…') && !told.contains(char::REPLACEMENT_CHARACTER));
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn g1_h5_a_guest_that_does_not_answer_is_waited_for_in_its_own_time() {
        // Nothing moves on this link.
        let link = Link::new(Counters::nowhere().into());
        let stream = link.open(EXEC_PORT).unwrap();
        let patience = Patience::begin(None, link.time().now());
        let mut guest = Listening { stream, patience };
        let began = tokio::time::Instant::now();
        let box_of_it = async {
            // It starts, runs for a while, and is paused.
            tokio::time::sleep(Duration::from_secs(100)).await;
            link.time().go_on(Cause::Awaited);
            tokio::time::sleep(Duration::from_secs(30)).await;
            link.time().stand(Cause::Paused);
            tokio::time::sleep(Duration::from_secs(1000)).await;
            link.time().go_on(Cause::Paused);
        };
        let (late, ()) = tokio::join!(guest.next_frame(), box_of_it);
        assert_eq!(late.unwrap_err(), Late::Silent);
        assert_eq!(began.elapsed(), Duration::from_secs(1160));
    }
}
