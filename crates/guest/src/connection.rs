//! The channel to the shim: the port itself, and the connection of streams that runs over it after a
//! greeting. Called by `guest`; `session` sends and receives through it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use boxwood_wire::frame::{self, Decoder, Frame, FrameError, HEADER, Kind};
use boxwood_wire::mux::{Event, Limits, Mux, MuxError, Role, StreamId};
use rustix::io::Errno;

use crate::fault::{Fault, Step};

/// Streams a shim may have open at the same time.
const LIMITS: Limits = Limits { streams: 256 };

/// What is taken from a stream at once.
const PULL: usize = 16 * 1024;

/// The virtio-serial port.
pub(crate) struct Port {
    fd: OwnedFd,
}

/// What came from the port.
pub(crate) enum Received {
    /// This many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nobody is at the other end.
    HungUp,
}

impl Port {
    /// A port opened for reading and writing without blocking.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Port { fd }
    }

    /// What to watch.
    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads what is there.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<Received, Fault> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(0) => Ok(Received::HungUp),
            Ok(count) => Ok(Received::Bytes(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(errno) => Err(errno).step("read from the channel"),
        }
    }

    /// Writes what there is room for; says how much.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Fault> {
        match rustix::io::write(&self.fd, bytes) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno).step("write to the channel"),
        }
    }
}

/// The most bytes of output in one frame: with the headers of its frame and of its parts it fits into
/// two writes to the port, which takes 32 KiB each.
const LARGEST: usize = frame::MAX_BYTES - 64;

/// One stream of a connection.
struct Stream {
    /// Its service, once its number has come.
    port: Option<u32>,
    decoder: Decoder,
    /// Frames the stream had no room for: a value, or the last bytes of a frame.
    waiting: Vec<u8>,
    /// To be half-closed when nothing is waiting any more.
    finishing: bool,
}

/// The streams between a greeting and a hang-up.
pub(crate) struct Connection {
    mux: Mux,
    streams: BTreeMap<StreamId, Stream>,
}

impl Connection {
    /// Right after a greeting.
    pub(crate) fn new() -> Self {
        Connection { mux: Mux::new(Role::Guest, LIMITS), streams: BTreeMap::new() }
    }

    /// Takes bytes from the port.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), MuxError> {
        self.mux.receive(bytes)
    }

    /// The next stream that has something to say, or was aborted.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let event = self.mux.next_event()?;
        match event {
            Event::Opened(id) => {
                let stream = Stream {
                    port: None,
                    decoder: Decoder::new(),
                    waiting: Vec::new(),
                    finishing: false,
                };
                self.streams.insert(id, stream);
            }
            Event::Readable(_) => {}
            Event::Writable(id) => self.push(id),
            Event::Reset(id) => {
                self.streams.remove(&id);
            }
        }
        Some(event)
    }

    /// Which service a stream wants, once it has said so.
    pub(crate) fn service(&mut self, id: StreamId) -> Option<u32> {
        let stream = self.streams.get_mut(&id)?;
        if stream.port.is_none() {
            stream.decoder.push(&self.mux.read(id, PULL));
            stream.port = stream.decoder.port();
        }
        stream.port
    }

    /// The next whole frame of a stream whose service is known.
    pub(crate) fn frame(&mut self, id: StreamId) -> Result<Option<Frame>, FrameError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
        loop {
            if let Some(frame) = stream.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let bytes = self.mux.read(id, PULL);
            if bytes.is_empty() {
                return Ok(None);
            }
            stream.decoder.push(&bytes);
        }
    }

    /// Whether the peer half-closed a stream, or it is gone.
    pub(crate) fn is_finished(&self, id: StreamId) -> bool {
        self.mux.is_finished(id)
    }

    /// The streams of a service.
    pub(crate) fn streams_of(&self, port: u32) -> Vec<StreamId> {
        let wanted =
            |(id, stream): (&StreamId, &Stream)| (stream.port == Some(port)).then_some(*id);
        self.streams.iter().filter_map(wanted).collect()
    }

    /// Sends a value of ours: always, even if it has to wait for room.
    pub(crate) fn reply<T: serde::Serialize>(&mut self, id: StreamId, value: &T) {
        // Our replies are short: their texts are bounded where they are made.
        if let (Some(stream), Ok(bytes)) =
            (self.streams.get_mut(&id), frame::value(Kind::Reply, value))
        {
            stream.waiting.extend(bytes);
            self.push(id);
        }
    }

    /// How many bytes a frame of this stream may have now; 0 if it has to wait.
    pub(crate) fn room(&mut self, id: StreamId) -> usize {
        match self.streams.get(&id) {
            Some(stream) if stream.waiting.is_empty() && !stream.finishing => {
                match self.mux.room(id) {
                    0 => 0,
                    room => room.saturating_sub(HEADER).clamp(1, LARGEST),
                }
            }
            _ => 0,
        }
    }

    /// Sends bytes that [`room`](Self::room) was asked for.
    pub(crate) fn send(&mut self, id: StreamId, kind: Kind, bytes: &[u8]) {
        let header = frame::header(kind, bytes.len());
        for part in [&header[..], bytes] {
            let Some(stream) = self.streams.get_mut(&id) else { return };
            let sent = if stream.waiting.is_empty() { self.mux.write(id, part) } else { 0 };
            stream.waiting.extend_from_slice(&part[sent..]);
        }
    }

    /// Half-closes a stream after what is waiting.
    pub(crate) fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.finishing = true;
            self.push(id);
        }
    }

    /// Aborts a stream.
    pub(crate) fn abort(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.mux.reset(id);
    }

    /// Writes to the port what there is and what it takes.
    pub(crate) fn flush(&mut self, port: &Port) -> Result<(), Fault> {
        while !self.mux.output().is_empty() {
            match port.write(self.mux.output())? {
                0 => break,
                sent => self.mux.sent(sent),
            }
        }
        Ok(())
    }

    /// Whether something waits for the port.
    pub(crate) fn has_output(&self) -> bool {
        self.mux.unsent() > 0
    }

    /// What would be written to the port, for a host's end in memory.
    #[cfg(test)]
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.mux.output().is_empty() {
            let part = self.mux.output().to_vec();
            self.mux.sent(part.len());
            bytes.extend(part);
        }
        bytes
    }

    fn push(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.waiting.is_empty() {
            let sent = self.mux.write(id, &stream.waiting);
            stream.waiting.drain(..sent);
        }
        if stream.finishing && stream.waiting.is_empty() {
            self.mux.close(id);
            self.streams.remove(&id);
        }
    }
}
