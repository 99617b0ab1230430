//! Many streams over one channel: the yamux protocol, as a state machine without I/O.
//!
//! The wire format is hashicorp/yamux's `spec.md`, version 0, so that any yamux library can talk to a
//! guest: a 12-byte big-endian header (version, type, flags, stream, length), a window of 256 KiB for
//! each stream and direction, half-closes by FIN, aborts by RST. The host is the client and opens
//! streams with odd ids; a guest that opens one breaks the protocol.
//!
//! Memory is bounded: a stream buffers at most one window, there are at most [`Limits::streams`]
//! streams, and output that the peer does not read stops the callers ([`Mux::write`] takes nothing
//! more) and, past [`OUTPUT_LIMIT`], ends the connection.

mod outbox;
mod receive;
mod stream;

use std::collections::{BTreeMap, VecDeque};

use outbox::Outbox;
use receive::Incoming;
pub use receive::MuxError;
use stream::Stream;

/// What each side may send on a new stream before it is given more, in bytes.
pub const WINDOW: u32 = 256 * 1024;
/// Callers' bytes wait here at most; [`Mux::write`] takes no more beyond it.
pub const OUTPUT_HIGH_WATER: usize = 128 * 1024;
/// Output the peer lets pile up, by pings and openings it does not read the answers of.
pub const OUTPUT_LIMIT: usize = 1 << 20;

const HEADER: usize = 12;
const CHUNK: usize = 32 * 1024;

const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 1;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;

const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

/// Which end of the channel this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The host: opens streams.
    Host,
    /// The guest: takes them.
    Guest,
}

/// What a connection may grow to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams at the same time.
    pub streams: usize,
}

/// The number of a stream.
pub type StreamId = u32;

/// What happened on a connection, for the one who feeds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer opened this stream.
    Opened(StreamId),
    /// Bytes to [`read`](Mux::read), or the peer's half-close, arrived on this stream.
    Readable(StreamId),
    /// The peer gave room to [`write`](Mux::write) on this stream.
    Writable(StreamId),
    /// The peer aborted this stream; it is gone.
    Reset(StreamId),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Mux {
    role: Role,
    limits: Limits,
    streams: BTreeMap<StreamId, Stream>,
    next_id: StreamId,
    last_peer_id: StreamId,
    header: Vec<u8>,
    incoming: Option<Incoming>,
    output: Outbox,
    events: VecDeque<Event>,
    /// Writers were turned away because of [`OUTPUT_HIGH_WATER`].
    clogged: bool,
}

impl Mux {
    /// A fresh connection.
    pub fn new(role: Role, limits: Limits) -> Self {
        Mux {
            role,
            limits,
            streams: BTreeMap::new(),
            next_id: 1,
            last_peer_id: 0,
            header: Vec::with_capacity(HEADER),
            incoming: None,
            output: Outbox::default(),
            events: VecDeque::new(),
            clogged: false,
        }
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Opens a stream. Only the host does.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub fn open(&mut self) -> Result<StreamId, MuxError> {
        debug_assert_eq!(self.role, Role::Host);
        if self.streams.len() >= self.limits.streams {
            return Err(MuxError::TooManyStreams(self.limits.streams));
        }
        let id = self.next_id;
        self.next_id = id.checked_add(2).ok_or(MuxError::Opening(id))?;
        self.streams.insert(id, Stream::new());
        self.send_header(WINDOW_UPDATE, SYN, id, 0);
        Ok(id)
    }

    /// Takes up to `limit` bytes that came on a stream, and lets the peer send as many again.
    pub fn read(&mut self, id: StreamId, limit: usize) -> Vec<u8> {
        let Some(stream) = self.streams.get(&id) else { return Vec::new() };
        let count = limit.min(stream.received.len());
        // In two copies: byte by byte this would be most of what a guest under emulation does.
        let (first, second) = stream.received.as_slices();
        let split = count.min(first.len());
        let bytes = [&first[..split], &second[..count - split]].concat();
        self.take(id, count);
        bytes
    }

    /// What came on a stream and was not read yet: the first part of it that lies in one piece.
    pub fn peek(&self, id: StreamId) -> &[u8] {
        self.streams.get(&id).map_or(&[], |stream| stream.received.as_slices().0)
    }

    /// Counts the first bytes that came on a stream as read, as [`read`](Self::read) does.
    pub fn take(&mut self, id: StreamId, count: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let count = count.min(stream.received.len());
        stream.received.drain(..count);
        if stream.received.is_empty() {
            // What comes next then lies in one piece, in memory that was just used.
            stream.received.clear();
        }
        self.grant(id, count);
        self.drop_if_closed(id);
    }

    /// So many bytes of a stream were read: the peer may send as many again.
    fn grant(&mut self, id: StreamId, count: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.consumed += count as u32;
        if stream.consumed >= WINDOW / 2 && !stream.peer_finished {
            let granted = std::mem::take(&mut stream.consumed);
            stream.receive_window += granted;
            self.send_header(WINDOW_UPDATE, 0, id, granted);
        }
    }

    /// How many bytes wait to be read on a stream.
    pub fn readable(&self, id: StreamId) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.received.len())
    }

    /// Whether the peer half-closed and everything before that was read. A stream that is gone is
    /// finished, too.
    pub fn is_finished(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_none_or(|s| s.peer_finished && s.received.is_empty())
    }

    /// Whether a stream is still open in any direction.
    pub fn is_open(&self, id: StreamId) -> bool {
        self.streams.contains_key(&id)
    }

    /// How many bytes [`write`](Self::write) would take now. When there is no room,
    /// [`Event::Writable`] will say that there is.
    pub fn room(&mut self, id: StreamId) -> usize {
        self.room_for(id, 1)
    }

    /// The same for who has no use for less than `least` bytes: less is no room, and will be announced.
    pub fn room_for(&mut self, id: StreamId, least: usize) -> usize {
        let space = OUTPUT_HIGH_WATER.saturating_sub(self.output.len());
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        if stream.finished {
            return 0;
        }
        let room = space.min(stream.send_window as usize);
        if room >= least {
            return room;
        }
        stream.starved = true;
        self.clogged |= space < least;
        0
    }

    /// Sends the first bytes of `bytes`, as many as there is room for, and says how many.
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> usize {
        let count = self.room(id).min(bytes.len());
        for chunk in bytes[..count].chunks(CHUNK) {
            self.send_header(DATA, 0, id, chunk.len() as u32);
            self.output.extend(chunk);
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send_window -= count as u32;
            // The writer comes back for what was not taken, so it has to be told when it can.
            stream.starved |= count < bytes.len();
            self.clogged |= count < bytes.len();
        }
        count
    }

    /// Sends `head` and what `fill` puts behind it, as one piece of the stream: it is given `limit` bytes of
    /// room and says how many it took. With 0, or an error, nothing is sent. [`room`](Self::room) has to be
    /// asked before.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn write_with<const HEAD: usize, E>(
        &mut self,
        id: StreamId,
        limit: usize,
        head: impl FnOnce(usize) -> [u8; HEAD],
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(0) };
        debug_assert!(!stream.finished && HEAD + limit <= stream.send_window as usize);
        let before = HEADER + HEAD;
        let room = self.output.room(before + limit);
        let count = fill(&mut room[before..])?;
        if count == 0 {
            return Ok(0);
        }
        let length = (HEAD + count) as u32;
        room[..HEADER].copy_from_slice(&header(DATA, 0, id, length));
        room[HEADER..before].copy_from_slice(&head(count));
        self.output.grow(before + count);
        stream.send_window -= length;
        Ok(count)
    }

    /// Sends the first few bytes on a stream that was just opened, however much else waits to be sent: what
    /// it is for has to come before anything that is said on it.
    pub fn write_first(&mut self, id: StreamId, bytes: &[u8]) {
        let Some(stream) = self.streams.get(&id) else { return };
        debug_assert!(stream.send_window == WINDOW && bytes.len() < WINDOW as usize);
        self.write_beyond(id, bytes);
    }

    /// Sends the first bytes of `bytes`, as many as the peer gives room for, however much else waits to be
    /// sent; says how many. For what is short and the last for a while: nobody is told when there is more room.
    pub fn write_beyond(&mut self, id: StreamId, bytes: &[u8]) -> usize {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.finished) else {
            return 0;
        };
        let count = bytes.len().min(stream.send_window as usize);
        stream.send_window -= count as u32;
        for chunk in bytes[..count].chunks(CHUNK) {
            self.send_header(DATA, 0, id, chunk.len() as u32);
            self.output.extend(chunk);
        }
        count
    }

    /// Half-closes a stream: nothing more will be written.
    pub fn finish(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !std::mem::replace(&mut stream.finished, true) {
            self.send_header(DATA, FIN, id, 0);
            self.drop_if_closed(id);
        }
    }

    /// Aborts a stream in both directions.
    pub fn reset(&mut self, id: StreamId) {
        if self.streams.remove(&id).is_some() {
            self.send_header(DATA, RST, id, 0);
        }
    }

    /// What is to be sent on the channel.
    pub fn output(&self) -> &[u8] {
        self.output.waiting()
    }

    /// How many bytes are to be sent, in all.
    pub fn unsent(&self) -> usize {
        self.output.len()
    }

    /// That many bytes of the [`output`](Self::output) were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.sent(count);
        if self.clogged && self.output.len() <= OUTPUT_HIGH_WATER / 2 {
            self.clogged = false;
            for (id, stream) in &mut self.streams {
                if stream.send_window > 0 && std::mem::take(&mut stream.starved) {
                    self.events.push_back(Event::Writable(*id));
                }
            }
        }
    }

    /// Queues an event unless it is already the last one queued: a flood of small frames on one
    /// stream is one thing to do.
    fn note(&mut self, event: Event) {
        if self.events.back() != Some(&event) {
            self.events.push_back(event);
        }
    }

    /// Forgets a stream that both sides closed. What was received and not read stays readable until
    /// the owner [`close`](Self::close)s it, so a finished stream is kept while it has data.
    fn drop_if_closed(&mut self, id: StreamId) {
        let done = |s: &Stream| s.finished && s.peer_finished && s.received.is_empty();
        if self.streams.get(&id).is_some_and(done) {
            self.streams.remove(&id);
        }
    }

    /// Ends a stream from this side whatever its state: nothing more is wanted from it and nothing
    /// more will be sent. In-order data already queued still goes out.
    pub fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (finished, peer_finished) = (stream.finished, stream.peer_finished);
        if !finished {
            self.send_header(DATA, FIN, id, 0);
        }
        if peer_finished {
            self.streams.remove(&id);
        } else if let Some(stream) = self.streams.get_mut(&id) {
            stream.finished = true;
            stream.deaf = true;
            stream.received.clear();
        }
    }

    fn send_header(&mut self, kind: u8, flags: u16, id: StreamId, length: u32) {
        self.output.extend(&header(kind, flags, id, length));
    }
}

fn header(kind: u8, flags: u16, id: StreamId, length: u32) -> [u8; HEADER] {
    let ([f0, f1], [l0, l1, l2, l3]) = (flags.to_be_bytes(), length.to_be_bytes());
    let [s0, s1, s2, s3] = id.to_be_bytes();
    [0, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
}

#[cfg(test)]
mod tests;
