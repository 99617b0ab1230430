//! QEMU's control connection (QMP): commands out, answers and events in. Called by `restore`,
//! `template::bake` and `vm`.
//!
//! Lines of JSON both ways. QEMU answers in order, so commands can be sent ahead of answers. A task
//! reads all that comes, always: a QEMU whose events nobody reads would keep them in its memory. Of
//! the events only the latest of each kind is remembered.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use crate::error::Error;

/// The longest line QEMU may send, in bytes; the answers to our commands have some hundred.
const LONGEST_LINE: u64 = 64 * 1024;

/// The latest events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) migration: Migration,
    /// It has said who it is.
    pub(crate) greeted: bool,
}

/// Where writing or loading a state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Migration {
    /// Not at its end.
    #[default]
    Underway,
    /// Done.
    Completed,
    /// It did not work.
    Failed,
}

/// A command and what goes with it.
pub(crate) struct Command<'a> {
    pub(crate) name: &'static str,
    pub(crate) arguments: Value,
    pub(crate) descriptor: Option<BorrowedFd<'a>>,
}

impl Command<'_> {
    /// A command with neither arguments nor descriptor.
    pub(crate) fn plain(name: &'static str) -> Self {
        Command { name, arguments: Value::Null, descriptor: None }
    }

    /// A command with arguments.
    pub(crate) fn with(name: &'static str, arguments: Value) -> Self {
        Command { name, arguments, descriptor: None }
    }
}

/// What QEMU says to a command: a value, or why not.
type Answer = Result<Value, String>;
/// Who waits for an answer, first come first served; nobody once no answer can come any more.
type Waiting = Arc<Mutex<Option<VecDeque<oneshot::Sender<Answer>>>>>;

/// The connection.
#[derive(Debug)]
pub(crate) struct Qmp {
    pid: u32,
    writer: OwnedWriteHalf,
    waiting: Waiting,
    observed: watch::Receiver<Observed>,
    reader: tokio::task::JoinHandle<()>,
}

/// A command that was sent.
#[must_use]
pub(crate) struct Pending {
    pid: u32,
    command: &'static str,
    answer: oneshot::Receiver<Answer>,
}

impl Qmp {
    /// Takes the host's end of QEMU's control socket.
    pub(crate) fn new(socket: StdUnixStream, pid: u32) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (read, writer) = UnixStream::from_std(socket)?.into_split();
        let waiting = Arc::new(Mutex::new(Some(VecDeque::new())));
        let (events, observed) = watch::channel(Observed::default());
        let reader = tokio::spawn(read_all(read, Arc::clone(&waiting), events));
        Ok(Qmp { pid, writer, waiting, observed, reader })
    }

    /// Sends a command; its answer comes later. Dropped halfway, it would leave half a line: the
    /// connection is of no use then. Nobody does that but one who ends the VM.
    pub(crate) async fn send(&mut self, command: Command<'_>) -> Result<Pending, Error> {
        let mut message = json!({ "execute": command.name });
        if !command.arguments.is_null() {
            message["arguments"] = command.arguments;
        }
        let line = format!("{message}\n");
        let (sender, answer) = oneshot::channel();
        match lock(&self.waiting).as_mut() {
            Some(waiting) => waiting.push_back(sender),
            None => return Err(closed(self.pid)),
        }
        self.write(line.as_bytes(), command.descriptor)
            .await
            .map_err(|error| self.broken(&error.to_string()))?;
        Ok(Pending { pid: self.pid, command: command.name, answer })
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn execute(&mut self, command: Command<'_>) -> Result<Value, Error> {
        self.send(command).await?.answer().await
    }

    /// Waits until it has said who it is: it has mapped its RAM by then, and is making its devices.
    pub(crate) async fn greeted(&mut self) -> Result<(), Error> {
        let pid = self.pid;
        let greeted = self.observed.wait_for(|observed| observed.greeted).await;
        greeted.map(drop).map_err(|_| closed(pid))
    }

    /// Waits until a state was written or loaded; `false` if that failed.
    pub(crate) async fn migrated(&mut self) -> Result<bool, Error> {
        let pid = self.pid;
        let end = self
            .observed
            .wait_for(|observed| observed.migration != Migration::Underway)
            .await
            .map_err(|_| closed(pid))?;
        Ok(end.migration == Migration::Completed)
    }

    async fn write(&self, line: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let socket: &UnixStream = self.writer.as_ref();
        let mut sent = 0;
        while sent < line.len() {
            // A descriptor goes with the first byte.
            let descriptor = descriptor.filter(|_| sent == 0);
            sent += socket
                .async_io(Interest::WRITABLE, || send_once(socket, &line[sent..], descriptor))
                .await?;
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> Error {
        Error::Control { pid: self.pid, reason: reason.to_owned() }
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Pending {
    /// Waits for the answer.
    pub(crate) async fn answer(self) -> Result<Value, Error> {
        let Pending { pid, command, answer } = self;
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(reason)) => Err(Error::Refused { pid, command, reason }),
            Err(_) => Err(closed(pid)),
        }
    }
}

fn closed(pid: u32) -> Error {
    Error::Control { pid, reason: "it closed its control connection or sent rubbish".to_owned() }
}

fn send_once(
    socket: &UnixStream,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, Option<VecDeque<oneshot::Sender<Answer>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads until QEMU closes the connection or breaks the protocol; then no answer will come.
async fn read_all(read: OwnedReadHalf, waiting: Waiting, events: watch::Sender<Observed>) {
    let mut lines = BufReader::new(read);
    while let Some(message) = next_message(&mut lines).await {
        if !sort(message, &waiting, &events) {
            break;
        }
    }
    *lock(&waiting) = None;
}

/// The next line as JSON; `None` at the end, or when it is none or too long.
async fn next_message<R: AsyncRead + Unpin>(lines: &mut BufReader<R>) -> Option<Value> {
    let mut line = Vec::new();
    lines.take(LONGEST_LINE).read_until(b'\n', &mut line).await.ok()?;
    if line.last() != Some(&b'\n') {
        return None;
    }
    serde_json::from_slice(&line).ok()
}

/// Gives an answer to whom it is for and remembers an event. `false` for an answer to nothing.
fn sort(mut message: Value, waiting: &Waiting, events: &watch::Sender<Observed>) -> bool {
    let answer = if let Some(error) = message.get("error") {
        let reason = error.get("desc").and_then(Value::as_str).unwrap_or("it does not say why");
        Err(reason.chars().take(1000).collect())
    } else if let Some(value) = message.get_mut("return") {
        Ok(value.take())
    } else {
        if message.get("event").and_then(Value::as_str) == Some("MIGRATION") {
            let migration = match message.pointer("/data/status").and_then(Value::as_str) {
                Some("completed") => Migration::Completed,
                Some("failed" | "cancelled") => Migration::Failed,
                _ => Migration::Underway,
            };
            events.send_modify(|observed| observed.migration = migration);
        }
        if message.get("QMP").is_some() {
            events.send_modify(|observed| observed.greeted = true);
        }
        // Or it is an event that nobody needs.
        return true;
    };
    let first = lock(waiting).as_mut().and_then(VecDeque::pop_front);
    match first {
        Some(sender) => {
            // Who no longer waits does not want it.
            let _ = sender.send(answer);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Write};
    use std::os::fd::AsFd;

    use super::*;

    /// A connection whose other end is played by a thread.
    fn with_peer<F>(peer: F) -> (Qmp, std::thread::JoinHandle<()>)
    where
        F: FnOnce(StdUnixStream) + Send + 'static,
    {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || peer(theirs));
        (Qmp::new(ours, 42).unwrap(), thread)
    }

    fn read_line(lines: &mut std::io::BufReader<StdUnixStream>) -> Value {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[tokio::test]
    async fn commands_sent_ahead_get_their_own_answers_between_events() {
        let (mut qmp, peer) = with_peer(|socket| {
            let mut lines = std::io::BufReader::new(socket.try_clone().unwrap());
            let mut socket = socket;
            writeln!(socket, "{}", json!({ "QMP": {} })).unwrap();
            assert_eq!(read_line(&mut lines), json!({ "execute": "one" }));
            let two = json!({ "execute": "two", "arguments": { "x": 1 } });
            assert_eq!(read_line(&mut lines), two);
            writeln!(socket, "{}", json!({ "return": 1 })).unwrap();
            writeln!(socket, "{}", json!({ "event": "STOP", "data": {} })).unwrap();
            writeln!(socket, "{}", json!({ "error": { "desc": "not now" } })).unwrap();
        });
        let one = qmp.send(Command::plain("one")).await.unwrap();
        let two = qmp.send(Command::with("two", json!({ "x": 1 }))).await.unwrap();
        assert_eq!(one.answer().await.unwrap(), json!(1));
        let refused = two.answer().await.unwrap_err().to_string();
        assert_eq!(refused, "QEMU (pid 42) refuses two: not now");
        peer.join().unwrap();
    }

    #[tokio::test]
    async fn a_migration_ends_by_an_event_that_may_come_before_anybody_waits() {
        let (mut qmp, peer) = with_peer(|mut socket| {
            for status in ["setup", "active", "failed"] {
                let event = json!({ "event": "MIGRATION", "data": { "status": status } });
                writeln!(socket, "{event}").unwrap();
            }
            let mut lines = std::io::BufReader::new(socket.try_clone().unwrap());
            read_line(&mut lines);
            writeln!(socket, "{}", json!({ "return": {} })).unwrap();
        });
        qmp.execute(Command::plain("x")).await.unwrap();
        assert!(!qmp.migrated().await.unwrap());
        peer.join().unwrap();
    }

    #[tokio::test]
    async fn an_endless_line_ends_the_connection_and_not_the_memory() {
        let (mut qmp, peer) = with_peer(|mut socket| {
            // Ends with an error as soon as nobody reads any more.
            while socket.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let error = qmp.execute(Command::plain("x")).await.unwrap_err();
        assert!(matches!(error, Error::Control { pid: 42, .. }), "{error}");
        drop(qmp);
        peer.join().unwrap();
    }

    #[tokio::test]
    async fn rubbish_and_answers_to_nothing_end_the_connection_for_every_later_command() {
        for rubbish in ["{]", "\"text\"\u{0}", "{\"return\": 1}"] {
            let (mut qmp, peer) = with_peer(move |mut socket| {
                writeln!(socket, "{rubbish}").unwrap();
                // Stays open: it is not the hang-up that ends it.
                let _ = std::io::copy(&mut socket, &mut std::io::sink());
            });
            (&mut qmp.reader).await.unwrap();
            let after = qmp.execute(Command::plain("x")).await;
            assert!(matches!(after, Err(Error::Control { .. })), "{rubbish}: {after:?}");
            drop(qmp);
            peer.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_descriptor_goes_with_its_command() {
        let (mut qmp, peer) = with_peer(|mut socket| {
            let (descriptors, bytes) = crate::confine::receive_descriptor(&socket).unwrap();
            assert!(bytes > 0 && descriptors.is_some());
            writeln!(socket, "{}", json!({ "return": {} })).unwrap();
        });
        let file = tempfile::tempfile().unwrap();
        let command = Command {
            name: "getfd",
            arguments: json!({ "fdname": "state" }),
            descriptor: Some(file.as_fd()),
        };
        qmp.execute(command).await.unwrap();
        peer.join().unwrap();
    }
}
