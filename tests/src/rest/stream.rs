//! What goes on: standard streams over a connection, and a log that is followed.

use std::io::{self, Read, Write};

use serde_json::Value;

use super::answer::unchunked;
use super::find;
use super::frame::{Frame, frame};
use super::wire::Wire;

/// A connection that has become a process's standard streams.
pub struct Stream {
    wire: Box<dyn Wire>,
    bytes: Vec<u8>,
    /// Standard output so far.
    pub stdout: Vec<u8>,
    /// Standard error so far.
    pub stderr: Vec<u8>,
}

impl Stream {
    pub(super) fn over(wire: Box<dyn Wire>) -> Self {
        Stream { wire, bytes: Vec::new(), stdout: Vec::new(), stderr: Vec::new() }
    }

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

/// A log that is being read.
pub struct Follower {
    wire: Box<dyn Wire>,
    head: Vec<u8>,
    seen: Vec<u8>,
}

impl Follower {
    pub(super) fn over(wire: Box<dyn Wire>) -> Self {
        Follower { wire, head: Vec::new(), seen: Vec::new() }
    }

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
        let mut bytes = unchunked(&self.seen);
        let frames = std::iter::from_fn(|| frame(&mut bytes));
        let payloads = frames.flat_map(|frame| match frame {
            Frame::Stdout(bytes) | Frame::Stderr(bytes) => bytes,
            Frame::Reply(_) => Vec::new(),
        });
        String::from_utf8_lossy(&payloads.collect::<Vec<u8>>()).into_owned()
    }
}
