//! Sessions beside main: each a stream of the guest's and a client's connection, and a task that
//! carries frames between them. Begun by the [supervisor](crate::supervisor).
//!
//! Nothing is kept here: what one side does not take stays in the other's window or socket, so a slow
//! client slows its own session and no other (contract G5). When the client goes, the stream is
//! aborted, and the guest ends the session (contract G6).

use std::rc::Rc;
use std::time::Duration;

use boxwood_state::control::{Exec, Reply, SessionEnd};
use boxwood_state::events::Action;
use boxwood_state::metrics::{Counter, Timing};
use boxwood_state::{Client, Text};
use boxwood_types::ExitStatus;
use boxwood_wire::frame::{self, EXEC_PORT, Frame, Kind, PTY_PORT};
use boxwood_wire::message::{Attachment, Decline, ProcessReply, StartSession};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::announcer::Announcer;
use crate::clients::{self, Caller};
use crate::greeting::shorten;
use crate::link::{Link, LinkError, Stream, StreamWriter};
use crate::main_io::{self, words};
use crate::output::{Outgoing, Sender};

/// The code of a session whose time was up, as `timeout` has it.
const TIMED_OUT: u8 = 124;

/// What a guest may take to say that a session's time was up, when that is all it has to say. Then the
/// client hears that nobody knows what became of it, since there are people who wait for no longer than that.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether main runs, so that a session begins as soon as its guest hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Main {
    /// It does.
    Runs,
    /// It is awaited, and the session with it.
    Awaited,
}

/// What the tasks of sessions leave behind: a client whose box ended under its session.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    tasks: JoinSet<Option<Sender>>,
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
        (link, main): (&Link, Main),
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
                let words: Vec<String> = exec.process.argv.iter().map(Text::display).collect();
                let news = News {
                    announcer: announcer.clone(),
                    id: stream.id(),
                    command: words.join(" "),
                    asked: Instant::now(),
                };
                news.created();
                self.adopt(relay((start, main), stream, caller, news));
            }
            Err(error) => {
                let end = SessionEnd::Failed { reason: words(&error) };
                let last = Outgoing::Last(clients::frame(&Reply::SessionEnded { end }));
                // The first word to this client: there is room for it.
                let _ = caller.reply.try_send(last);
            }
        }
    }

    /// The clients whose sessions ended with the box, as their tasks end.
    pub(crate) fn into_bereaved(self) -> (Vec<Sender>, JoinSet<Option<Sender>>) {
        (self.bereaved, self.tasks)
    }
}

/// What is told about a session.
struct News {
    announcer: Announcer,
    id: u32,
    command: String,
    asked: Instant,
}

impl News {
    fn created(&self) {
        self.announcer.say(&Action::ExecCreate(self.id, self.command.clone()));
    }

    fn started(&self) {
        let counters = &self.announcer.counters;
        counters.add(Counter::Execs, 1);
        counters.took(Timing::Exec, self.asked.elapsed());
        self.announcer.say(&Action::ExecStart(self.id, self.command.clone()));
    }

    fn ended(&self, end: &SessionEnd) {
        let code = match end {
            SessionEnd::Exited { status } => status.shell_code(),
            SessionEnd::TimedOut => TIMED_OUT,
            SessionEnd::Refused { refusal, .. } => refusal.shell_code(),
            SessionEnd::Failed { .. } => ExitStatus::Unknown.shell_code(),
        };
        self.announcer.say(&Action::ExecDie(self.id, code));
    }
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
    (start, main): (StartSession, Main),
    mut stream: Stream,
    caller: Caller,
    news: News,
) -> Option<Sender> {
    let Caller { mut read, mut decoder, reply, seat: _seat } = caller;
    let writer = stream.writer();
    let guest = Guest {
        attachment: start.attachment,
        timeout: start.timeout_ms.map(Duration::from_millis),
        main,
    };
    let end = {
        let inward = async {
            match writer.send_value(&start).await {
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
            end = carry_output(&mut stream, &reply, guest, &news) => end,
            end = inward => end,
            () = reply.closed() => End::ClientGone,
        }
    };
    let last = match end {
        End::Told(last) => {
            if let Reply::SessionEnded { end } = &last {
                news.ended(end);
            }
            last
        }
        End::Released(last) => {
            if let Reply::SessionEnded { end } = &last {
                news.ended(end);
            }
            stream.abort();
            last
        }
        End::ClientGone => {
            stream.abort();
            return None;
        }
        End::BoxEnded => return Some(reply),
    };
    // A client that has gone needs no last word.
    let _ = reply.send(Outgoing::Last(clients::frame(&last))).await;
    None
}

/// What the guest was asked for.
struct Guest {
    attachment: Attachment,
    timeout: Option<Duration>,
    main: Main,
}

impl Guest {
    /// When the session's time is up, if it begins now. A time that is never up is none.
    fn time_is_up(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

/// The next thing the guest says; `None` when the session's time was up a while ago and it says nothing.
async fn next_frame(
    stream: &mut Stream,
    up: Option<Instant>,
) -> Option<Result<Option<Frame>, LinkError>> {
    let Some(up) = up else { return Some(stream.next_frame().await) };
    // From when we listen: a slow client is no silence of the guest's.
    let limit = up.max(Instant::now()) + BEYOND_TIMEOUT;
    tokio::time::timeout_at(limit, stream.next_frame()).await.ok()
}

/// Carries what the guest says to the client.
async fn carry_output(stream: &mut Stream, reply: &Sender, guest: Guest, news: &News) -> End {
    let mut up = guest.time_is_up().filter(|_| guest.main == Main::Runs);
    let mut started = false;
    loop {
        let Some(heard) = next_frame(stream, up).await else {
            let reason =
                "its time was up and its guest does not answer: what became of it is unknown";
            let end = SessionEnd::Failed { reason: reason.to_owned() };
            return End::Released(Reply::SessionEnded { end });
        };
        let outgoing = match heard {
            Ok(Some(Frame { kind: kind @ (Kind::Stdout | Kind::Stderr), payload })) => {
                let mut whole = frame::header(kind, payload.len()).to_vec();
                whole.extend_from_slice(&payload);
                Rc::new(whole)
            }
            Ok(Some(frame)) if frame.kind == Kind::Reply => match understand(&frame.payload) {
                Some(end) => return End::Told(Reply::SessionEnded { end }),
                None if started => return lost("the guest started a session twice".to_owned()),
                None => {
                    (started, up) = (true, guest.time_is_up());
                    news.started();
                    let started = Reply::SessionStarted { session: stream.id() };
                    match guest.attachment {
                        Attachment::Attached => clients::frame(&started),
                        Attachment::Detached => return End::Released(started),
                    }
                }
            },
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
fn understand(payload: &[u8]) -> Option<SessionEnd> {
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
        Ok(ProcessReply::Declined(Decline::TooMany { limit })) => {
            failed(format!("it runs {limit} commands already, which is the limit"))
        }
        Ok(ProcessReply::Conflict) => failed("the guest answered about main".to_owned()),
        Err(error) => failed(boxwood_types::chain(&error)),
    }
}

/// Carries what the client sends to the guest. Returns when the client has broken the protocol; that
/// it has gone is heard elsewhere.
async fn carry_input(
    read: &mut tokio::net::unix::OwnedReadHalf,
    decoder: &mut frame::Decoder,
    writer: &StreamWriter,
) {
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
