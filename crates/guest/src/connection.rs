//! The channel to the shim: the port itself, and the connection of streams that runs over it after a
//! greeting. Called by `guest`; `session` sends and receives through it.

mod port;
mod stream;

use std::collections::BTreeMap;

use boxwood_wire::frame::{self, CONTROL_PORT, Frame, FrameError, HEADER, Kind};
use boxwood_wire::message::{ControlReply, ProcessReply};
use boxwood_wire::mux::{Event, Limits, Mux, MuxError, Role, StreamId};
pub(crate) use port::{Port, Received};
use stream::{Stream, Unfinished};

use crate::beat::Beat;
use crate::fault::Fault;

/// Streams a shim may have open at the same time.
const LIMITS: Limits = Limits { streams: 256 };

/// The most bytes of output in one frame: with its headers it fits into two writes to the port, which
/// takes 32 KiB each.
const LARGEST: usize = frame::MAX_BYTES - 64;

/// What a session reads from its stream.
pub(crate) enum Input<'a> {
    /// These bytes, of which it says how many it [took](Connection::took).
    Bytes(&'a [u8]),
    /// The end of the input.
    End,
    /// Nothing for now.
    Nothing,
    /// What has no place on the stream of a session.
    Misplaced,
}

/// The streams between a greeting and a hang-up.
pub(crate) struct Connection {
    mux: Mux,
    streams: BTreeMap<StreamId, Stream>,
    /// Ends of sessions that were told on streams which the peer has not closed yet: it may not have read
    /// so far.
    told: BTreeMap<StreamId, ProcessReply>,
    /// The signs of life that were asked for on it.
    pub(crate) beat: Option<Beat>,
}

impl Connection {
    /// Right after a greeting.
    pub(crate) fn new() -> Self {
        let mux = Mux::new(Role::Guest, LIMITS);
        Connection { mux, streams: BTreeMap::new(), told: BTreeMap::new(), beat: None }
    }

    /// Takes bytes from the port. Input for which nothing waits is offered to `session`, which says how
    /// much of it it takes.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        mut session: impl FnMut(StreamId, &[u8]) -> usize,
    ) -> Result<(), MuxError> {
        let streams = &mut self.streams;
        self.mux.receive_with(bytes, |id, payload| {
            let Some(stream) = streams.get_mut(&id) else { return 0 };
            stream.pass_on(payload, |input| session(id, input))
        })
    }

    /// The next stream that has something to say, or was aborted.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let event = self.mux.next_event()?;
        match event {
            Event::Opened(id) => {
                self.streams.insert(id, Stream::default());
            }
            Event::Readable(id) => self.forget_if_closed(id),
            Event::Writable(id) => self.push(id),
            Event::Reset(id) => {
                self.streams.remove(&id);
                if let Some(end) = self.told.remove(&id) {
                    self.report(&ControlReply::SessionEnded { stream: id, end });
                }
            }
        }
        Some(event)
    }

    /// Which service a stream wants, once it has said so.
    pub(crate) fn service(&mut self, id: StreamId) -> Option<u32> {
        let stream = self.streams.get_mut(&id)?;
        if stream.port.is_none() {
            stream.port = stream.head.read(&mut self.mux, id).map(u32::from_le_bytes);
        }
        stream.port
    }

    /// The next whole frame of a stream whose service is known.
    pub(crate) fn frame(&mut self, id: StreamId) -> Result<Option<Frame>, FrameError> {
        let Some(mut frame) = self.unfinished(id)? else { return Ok(None) };
        while frame.left > 0 {
            let bytes = self.mux.peek(id);
            let count = bytes.len().min(frame.left);
            if count == 0 {
                break;
            }
            frame.payload.extend_from_slice(&bytes[..count]);
            frame.left -= count;
            self.mux.take(id, count);
        }
        if frame.left == 0 {
            return Ok(Some(Frame { kind: frame.kind, payload: frame.payload }));
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.unfinished = Some(frame);
        }
        Ok(None)
    }

    /// The next bytes of a session's input, as they come: a frame of it need not be whole.
    pub(crate) fn input(&mut self, id: StreamId) -> Result<Input<'_>, FrameError> {
        loop {
            let Some(frame) = self.unfinished(id)? else { return Ok(Input::Nothing) };
            match frame.kind {
                Kind::StdinEof => return Ok(Input::End),
                Kind::Stdin if frame.left == 0 => {}
                Kind::Stdin => {
                    let left = frame.left;
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.unfinished = Some(frame);
                    }
                    let bytes = self.mux.peek(id);
                    let bytes = &bytes[..bytes.len().min(left)];
                    return Ok(if bytes.is_empty() { Input::Nothing } else { Input::Bytes(bytes) });
                }
                _ => return Ok(Input::Misplaced),
            }
        }
    }

    /// The first bytes of the last [`input`](Self::input) need not be kept any more.
    pub(crate) fn took(&mut self, id: StreamId, count: usize) {
        self.mux.take(id, count);
        let unfinished = self.streams.get_mut(&id).and_then(|stream| stream.unfinished.as_mut());
        if let Some(frame) = unfinished {
            frame.left -= count;
        }
    }

    /// The frame that is being read, once its header has come. It is the caller's to put back.
    fn unfinished(&mut self, id: StreamId) -> Result<Option<Unfinished>, FrameError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
        if let Some(frame) = stream.unfinished.take() {
            return Ok(Some(frame));
        }
        let Some(header) = stream.head.read(&mut self.mux, id) else { return Ok(None) };
        let (kind, left) = frame::parse_header(&header)?;
        Ok(Some(Unfinished { kind, left, payload: Vec::new() }))
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

    /// Says something to whoever has a control stream, which nobody asked for.
    pub(crate) fn report(&mut self, value: &ControlReply) {
        for id in self.streams_of(CONTROL_PORT) {
            self.reply(id, value);
        }
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

    /// The same, with all that waits on this stream, however much waits on others: behind it nothing is
    /// moved any more, so nothing would make room for it.
    pub(crate) fn reply_at_once<T: serde::Serialize>(&mut self, id: StreamId, value: &T) {
        self.reply(id, value);
        if let Some(stream) = self.streams.get_mut(&id) {
            let sent = self.mux.write_beyond(id, &stream.waiting);
            stream.waiting.drain(..sent);
        }
    }

    /// Says the last on a session's stream: its end. A peer that aborts the stream instead of closing it may not
    /// have read so far, and is told once more, beside it.
    pub(crate) fn reply_last(&mut self, id: StreamId, end: ProcessReply) {
        if !self.mux.is_open(id) {
            // It was aborted a moment ago, and that is not dealt with yet.
            return self.report(&ControlReply::SessionEnded { stream: id, end });
        }
        self.reply(id, &end);
        self.told.insert(id, end);
        self.finish(id);
        self.forget_if_closed(id);
    }

    /// Who has closed a stream has read all of it.
    fn forget_if_closed(&mut self, id: StreamId) {
        if !self.mux.is_open(id) {
            self.told.remove(&id);
        }
    }

    /// How many bytes a frame of this stream may have now; 0 if it has to wait.
    pub(crate) fn room(&mut self, id: StreamId) -> usize {
        match self.streams.get(&id) {
            Some(stream) if stream.waiting.is_empty() && !stream.finishing => {
                self.mux.room_for(id, HEADER + 1).saturating_sub(HEADER).min(LARGEST)
            }
            _ => 0,
        }
    }

    /// Sends what `read` puts into the place that it is given, of `limit` bytes, for which there is
    /// [`room`](Self::room); says how much that was.
    pub(crate) fn send<E>(
        &mut self,
        id: StreamId,
        kind: Kind,
        limit: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.mux.write_with(id, limit, |count| frame::header(kind, count), read)
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
        self.forget_if_closed(id);
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

    /// Whether no end is kept to be told again.
    #[cfg(test)]
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.told.is_empty()
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
            self.forget_if_closed(id);
        }
    }
}
