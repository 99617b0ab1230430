//! `boxwood serve` under test, and a client of it that speaks plain HTTP/1.1. Called by the tests of
//! the REST API.

mod answer;
mod frame;
mod stream;
mod wire;

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

pub use answer::Answer;
pub use frame::Frame;
pub use stream::{Follower, Stream, Writer};
pub use wire::Wire;

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
        Stream::over(wire)
    }

    /// Reads the log of a box that goes on.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn follow(&self, path: &str) -> Follower {
        let mut wire = self.connect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n");
        wire.write_all(head.as_bytes()).expect("the daemon listens");
        Follower::over(wire)
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

/// Where this is in these bytes.
fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
