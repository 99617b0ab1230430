//! `boxwood serve` under test, and a client of it that speaks plain HTTP/1.1. Called by the tests of
//! the REST API.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::invocation::Invocation;
use crate::lab::Lab;
use crate::output::Output;
use crate::running::Running;

/// A daemon that runs.
pub struct Daemon {
    running: Running,
    place: Place,
}

/// Where it can be asked.
#[derive(Clone, Debug)]
enum Place {
    Unix(PathBuf),
    Tcp(String),
}

/// What a client and the daemon say to each other.
pub trait Wire: Read + Write + Send {
    /// How long a read may take.
    ///
    /// # Errors
    /// When the connection is gone.
    fn patience(&self, time: Duration) -> io::Result<()>;

    /// The same connection once more.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    fn again(&self) -> io::Result<Box<dyn Wire>>;

    /// Writes no more than is taken at once.
    ///
    /// # Errors
    /// When the connection is gone.
    fn never_wait(&self) -> io::Result<()>;
}

impl Wire for UnixStream {
    fn patience(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }

    fn again(&self) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn never_wait(&self) -> io::Result<()> {
        self.set_write_timeout(Some(Duration::from_millis(500)))
    }
}

impl Wire for TcpStream {
    fn patience(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }

    fn again(&self) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn never_wait(&self) -> io::Result<()> {
        self.set_write_timeout(Some(Duration::from_millis(500)))
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// What was asked.
    pub asked: String,
    /// Its status.
    pub status: u16,
    /// Its head, as it came.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// A connection that has become a process's standard streams.
pub struct Stream {
    wire: Box<dyn Wire>,
    bytes: Vec<u8>,
    /// Standard output so far.
    pub stdout: Vec<u8>,
    /// Standard error so far.
    pub stderr: Vec<u8>,
}

/// A frame, as docs/protocol.md has them.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// A reply.
    Reply(Value),
    /// Standard output.
    Stdout(Vec<u8>),
    /// Standard error.
    Stderr(Vec<u8>),
}

impl Lab {
    /// A daemon on the socket in the home.
    ///
    /// # Panics
    /// When it does not serve.
    #[track_caller]
    pub fn daemon(&self) -> Daemon {
        self.daemon_with(&[])
    }

    /// A daemon with these arguments.
    ///
    /// # Panics
    /// When it does not serve.
    #[track_caller]
    pub fn daemon_with(&self, args: &[&str]) -> Daemon {
        Daemon::start(self.boxwood(["serve"]).args(args))
    }
}

impl Daemon {
    /// A daemon that is started like this.
    ///
    /// # Panics
    /// When it does not serve.
    #[track_caller]
    pub fn start(serve: Invocation) -> Daemon {
        // It may live as long as its test.
        let running = serve.within(Duration::from_secs(600)).spawn();
        let said = running.hears("serving on ");
        let address = said.split("serving on ").nth(1).unwrap_or_default();
        let address = address.split([' ', '\n']).next().unwrap_or_default();
        let place = match address.split_once("://") {
            Some(("unix", path)) => Place::Unix(path.into()),
            Some((_, host)) => Place::Tcp(host.to_owned()),
            None => panic!("it serves nowhere: {said}"),
        };
        Daemon { running, place }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Its Unix socket.
    ///
    /// # Panics
    /// When it has none.
    pub fn socket(&self) -> &Path {
        match &self.place {
            Place::Unix(path) => path,
            Place::Tcp(_) => panic!("it listens on TCP"),
        }
    }

    /// Its TCP address.
    ///
    /// # Panics
    /// When it has none.
    pub fn address(&self) -> &str {
        match &self.place {
            Place::Tcp(address) => address,
            Place::Unix(_) => panic!("it listens on a Unix socket"),
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Ends it as a service manager does, and waits until it has gone.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn stop(self) -> Output {
        self.running.signal(Signal::TERM);
        self.running.wait().exits(0)
    }

    /// Waits until it has gone, after it was told to.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn stopped(self) -> Output {
        self.running.wait().exits(0)
    }

    /// Kills it.
    #[track_caller]
    pub fn kill(self) {
        self.running.signal(Signal::KILL);
        drop(self.running.wait());
    }

    /// Asks for something with a body of JSON, or none, and does not care for the answer.
    ///
    /// # Panics
    /// When nobody is there.
    #[track_caller]
    pub fn send(&self, line: &str, body: &str) {
        let mut wire = self.connect();
        let (kind, length) = ("Content-Type: application/json\r\n", body.len());
        let head = format!("{line} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n{kind}");
        let sent =
            wire.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes());
        sent.expect("a small request is taken at once");
        // Until there is an answer, or nobody who could give one.
        let _ = wire.read_to_end(&mut Vec::new());
    }

    /// It is killed, and not by the test.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn was_killed(self) {
        let ended = self.running.wait();
        assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()), "{ended:?}");
    }

    /// A connection.
    ///
    /// # Panics
    /// When nobody is there.
    #[track_caller]
    pub fn connect(&self) -> Box<dyn Wire> {
        let wire: io::Result<Box<dyn Wire>> = match &self.place {
            Place::Unix(path) => UnixStream::connect(path).map(|wire| Box::new(wire) as _),
            Place::Tcp(address) => TcpStream::connect(address).map(|wire| Box::new(wire) as _),
        };
        let wire = wire.unwrap_or_else(|error| panic!("{:?}: {error}", self.place));
        wire.patience(crate::DEADLINE).expect("a deadline can be set");
        wire
    }

    /// Asks with these bytes as the head's further lines and the body.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn ask(&self, line: &str, headers: &str, body: &[u8]) -> Answer {
        let mut wire = self.connect();
        let length = match body.is_empty() {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        let head =
            format!("{line} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n{length}{headers}\r\n");
        let asked = format!("{line} {}", String::from_utf8_lossy(body));
        // It may refuse before it has taken everything.
        let sent = wire.write_all(head.as_bytes()).and_then(|()| wire.write_all(body));
        let mut bytes = Vec::new();
        let read = wire.read_to_end(&mut bytes);
        Answer::parse(&bytes, &asked)
            .unwrap_or_else(|| panic!("{asked}: no answer: {sent:?} {read:?} {bytes:?}"))
    }

    /// GET.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "", b"")
    }

    /// DELETE.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.ask(&format!("DELETE {path}"), "", b"")
    }

    /// POST without a body.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn tell(&self, path: &str) -> Answer {
        self.ask(&format!("POST {path}"), "", b"")
    }

    /// POST with JSON.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.ask(&format!("POST {path}"), "Content-Type: application/json\r\n", body.as_bytes())
    }

    /// Asks for a stream.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn stream(&self, path: &str) -> Stream {
        let mut wire = self.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: box\r\nConnection: upgrade\r\n\
             Upgrade: boxwood-stream\r\n\r\n"
        );
        wire.write_all(head.as_bytes()).expect("the daemon listens");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            wire.read_exact(&mut byte).unwrap_or_else(|error| panic!("{path}: {error}: {head:?}"));
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
        Stream { wire, bytes: Vec::new(), stdout: Vec::new(), stderr: Vec::new() }
    }

    /// Reads the log of a box that goes on.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn follow(&self, path: &str) -> Follower {
        let mut wire = self.connect();
        let head = format!("GET {path} HTTP/1.0\r\nHost: box\r\n\r\n");
        wire.write_all(head.as_bytes()).expect("the daemon listens");
        Follower { wire, head: Vec::new(), seen: Vec::new() }
    }

    /// Describes a command to be run in a box, and starts it with a stream.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn exec(&self, name: &str, request: &Value) -> (String, Stream) {
        let created = self.post(&format!("/v1/boxes/{name}/exec"), request).is(201).json();
        let id = created["id"].as_str().expect("it has an id").to_owned();
        let stream = self.stream(&format!("/v1/exec/{id}/start"));
        (id, stream)
    }
}

/// A log that is being read. Over HTTP/1.0 its body ends with the connection, and is not in pieces.
pub struct Follower {
    wire: Box<dyn Wire>,
    head: Vec<u8>,
    seen: Vec<u8>,
}

impl Follower {
    /// Reads until the log holds this, and returns all of it so far: the payloads of its frames.
    ///
    /// # Panics
    /// When it ends first.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        loop {
            let said = self.text();
            if said.contains(text) {
                return said;
            }
            assert!(self.more(), "the log ended without '{text}': {said}");
        }
    }

    /// Reads to the end.
    pub fn to_the_end(&mut self) -> String {
        while self.more() {}
        self.text()
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.wire.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.seen.extend_from_slice(&buffer[..count]);
                if self.head.is_empty()
                    && let Some(end) = find(&self.seen, b"\r\n\r\n")
                {
                    let rest = self.seen.split_off(end + 4);
                    self.head = std::mem::replace(&mut self.seen, rest);
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => panic!("the log does not come: {error}"),
        }
    }

    fn text(&self) -> String {
        if self.head.is_empty() {
            return String::new();
        }
        let mut bytes = self.seen.clone();
        let frames = std::iter::from_fn(|| frame(&mut bytes));
        let payloads = frames.flat_map(|frame| match frame {
            Frame::Stdout(bytes) | Frame::Stderr(bytes) => bytes,
            Frame::Reply(_) => Vec::new(),
        });
        String::from_utf8_lossy(&payloads.collect::<Vec<u8>>()).into_owned()
    }
}

/// The sending side of a stream.
pub struct Writer {
    wire: Box<dyn Wire>,
}

impl Writer {
    /// Sends standard input.
    pub fn stdin(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(65536) {
            self.send(3, chunk);
        }
    }

    /// Ends standard input.
    pub fn eof(&mut self) {
        self.send(4, b"");
    }

    /// Sends any frame.
    ///
    /// # Panics
    /// When it is longer than a length can say.
    pub fn send(&mut self, kind: u8, payload: &[u8]) {
        // The process may have ended.
        let _ = self.try_send(kind, payload);
    }

    /// Sends standard input until nobody takes any more of it.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn fill(&mut self) {
        self.wire.never_wait().expect("the connection is there");
        while self.try_send(3, &[b'x'; 65536]).is_ok() {}
    }

    fn try_send(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut whole = vec![kind];
        whole.extend(u32::try_from(payload.len()).expect("it is short").to_le_bytes());
        whole.extend(payload);
        self.wire.write_all(&whole)
    }
}

impl Stream {
    /// Its sending side, for a thread of its own.
    ///
    /// # Panics
    /// When there is no descriptor for it.
    pub fn writer(&self) -> Writer {
        Writer { wire: self.wire.again().expect("there are descriptors") }
    }

    /// Sends standard input.
    pub fn stdin(&mut self, bytes: &[u8]) {
        self.writer().stdin(bytes);
    }

    /// Ends standard input.
    pub fn eof(&mut self) {
        self.writer().eof();
    }

    /// The next frame; `None` at the end.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame(&mut self.bytes) {
                match &frame {
                    Frame::Stdout(bytes) => self.stdout.extend(bytes),
                    Frame::Stderr(bytes) => self.stderr.extend(bytes),
                    Frame::Reply(_) => {}
                }
                return Some(frame);
            }
            let mut buffer = [0; 65536];
            match self.wire.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing comes: {error}: {:?} {:?}", self.stdout, self.stderr),
            }
        }
    }

    /// Reads until standard output holds this.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn says(&mut self, text: &str) {
        while find(&self.stdout, text.as_bytes()).is_none() {
            let next = self.frame();
            assert!(next.is_some(), "it ended without '{text}': {:?}", self.stdout);
        }
    }

    /// Reads to the end and returns the last reply.
    ///
    /// # Panics
    /// When there was none.
    #[track_caller]
    pub fn ends(&mut self) -> Value {
        let mut last = None;
        while let Some(frame) = self.frame() {
            if let Frame::Reply(reply) = frame {
                last = Some(reply);
            }
        }
        last.expect("it ended with a word")
    }
}

/// Takes a frame out of these bytes, if it is whole.
fn frame(bytes: &mut Vec<u8>) -> Option<Frame> {
    let head: [u8; 5] = bytes.get(..5)?.try_into().ok()?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let payload = bytes.get(5..5 + length)?.to_vec();
    bytes.drain(..5 + length);
    Some(match head[0] {
        2 => Frame::Reply(serde_json::from_slice(&payload).expect("a reply is JSON")),
        5 => Frame::Stdout(payload),
        6 => Frame::Stderr(payload),
        other => panic!("a frame of kind {other}"),
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

impl Answer {
    fn parse(bytes: &[u8], asked: &str) -> Option<Answer> {
        let end = find(bytes, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = &bytes[end + 4..];
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(body) } else { body.to_vec() };
        Some(Answer { asked: asked.chars().take(300).collect(), status, head, body })
    }

    /// It has this status.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}\n{}", self.asked, self.head, self.text());
        self
    }

    /// It is an error of this kind, and says this.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn fails(self, status: u16, kind: &str, words: &[&str]) -> Self {
        let answer = self.is(status);
        let error = answer.json()["error"].clone();
        assert_eq!(error["kind"], kind, "{}: {error}", answer.asked);
        let message = error["message"].as_str().unwrap_or_default();
        for word in words {
            assert!(message.contains(word), "{}: no '{word}' in '{message}'", answer.asked);
        }
        assert!(!message.is_empty() && !message.contains('\n'), "{message}");
        answer
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.asked, self.text()))
    }

    /// Its body's frames, joined: standard output and standard error.
    pub fn frames(&self) -> (String, String) {
        let mut bytes = self.body.clone();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(frame) = frame(&mut bytes) {
            match frame {
                Frame::Stdout(bytes) => out.extend(bytes),
                Frame::Stderr(bytes) => err.extend(bytes),
                Frame::Reply(_) => {}
            }
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(out), text(err))
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16);
        let Ok(length @ 1..) = length else { break };
        whole.extend(&bytes[end + 2..(end + 2 + length).min(bytes.len())]);
        bytes = bytes.get(end + 2 + length + 2..).unwrap_or_default();
    }
    whole
}
