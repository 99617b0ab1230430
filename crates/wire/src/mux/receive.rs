//! What comes from the channel: headers and payloads, and what of it breaks the protocol. Part of
//! [`mux`](super).

use super::stream::Stream;
use super::{
    ACK, DATA, Event, FIN, GO_AWAY, HEADER, Mux, OUTPUT_LIMIT, PING, RST, Role, SYN, StreamId,
    WINDOW, WINDOW_UPDATE,
};

/// How the peer broke the protocol. The connection is over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MuxError {
    /// The version is not 0.
    #[error("a frame of yamux version {0}")]
    Version(u8),
    /// The type is none of the four.
    #[error("a frame of unknown type {0}")]
    Type(u8),
    /// A stream was opened by the side that may not, with a wrong id, or twice.
    #[error("stream {0} can't be opened")]
    Opening(StreamId),
    /// More streams than [`Limits::streams`](super::Limits::streams).
    #[error("more than {0} streams")]
    TooManyStreams(usize),
    /// More data than the window allows.
    #[error("stream {0} was sent more than its window")]
    WindowExceeded(StreamId),
    /// A window that can't be.
    #[error("stream {0} was given an impossible window")]
    WindowOverflow(StreamId),
    /// The peer makes us answer and does not read the answers.
    #[error("the other side sends without reading")]
    Flood,
    /// The peer ended the connection.
    #[error("the other side went away with code {0}")]
    GoneAway(u32),
}

/// A frame whose payload is still arriving.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: StreamId,
    left: usize,
    finish: bool,
}

impl Mux {
    /// Takes bytes from the channel. Afterwards [`next_event`](Self::next_event) tells what they
    /// meant.
    ///
    /// # Errors
    /// When the peer broke the protocol.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), MuxError> {
        self.receive_with(bytes, |_, _| 0)
    }

    /// The same, and `direct` is offered what comes on a stream of which everything before was read: it
    /// says how much of that it read at once.
    ///
    /// # Errors
    /// When the peer broke the protocol.
    pub fn receive_with(
        &mut self,
        mut bytes: &[u8],
        mut direct: impl FnMut(StreamId, &[u8]) -> usize,
    ) -> Result<(), MuxError> {
        while !bytes.is_empty() {
            if self.incoming.is_some() {
                bytes = self.take_payload(bytes, &mut direct);
                continue;
            }
            let need = HEADER - self.header.len();
            let (head, rest) = bytes.split_at(need.min(bytes.len()));
            self.header.extend_from_slice(head);
            bytes = rest;
            if let Some(header) = self.header.first_chunk::<HEADER>().copied() {
                self.header.clear();
                self.take_header(header)?;
            }
            if self.output.len() > OUTPUT_LIMIT {
                return Err(MuxError::Flood);
            }
        }
        Ok(())
    }

    fn take_payload<'a>(
        &mut self,
        bytes: &'a [u8],
        direct: &mut impl FnMut(StreamId, &[u8]) -> usize,
    ) -> &'a [u8] {
        let Some(incoming) = &mut self.incoming else { return bytes };
        let (payload, rest) = bytes.split_at(incoming.left.min(bytes.len()));
        incoming.left -= payload.len();
        let (id, done, finish) = (incoming.stream, incoming.left == 0, incoming.finish);
        // A stream that was reset while its data was under way is no longer here.
        if let Some(stream) = self.streams.get_mut(&id) {
            let mut read = 0;
            if !stream.deaf {
                if stream.received.is_empty() {
                    read = direct(id, payload);
                }
                stream.received.extend(&payload[read..]);
            }
            if done && finish {
                stream.peer_finished = true;
            }
            if read < payload.len() || (done && finish) {
                self.note(Event::Readable(id));
            }
            self.grant(id, read);
        }
        if done {
            self.incoming = None;
            self.drop_if_closed(id);
        }
        rest
    }

    fn take_header(&mut self, header: [u8; HEADER]) -> Result<(), MuxError> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = header;
        let flags = u16::from_be_bytes([f0, f1]);
        let id = u32::from_be_bytes([s0, s1, s2, s3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if version != 0 {
            return Err(MuxError::Version(version));
        }
        match kind {
            DATA | WINDOW_UPDATE => {
                if flags & SYN != 0 {
                    self.accept(id)?;
                }
                if flags & RST != 0 {
                    if self.streams.remove(&id).is_some() {
                        self.events.push_back(Event::Reset(id));
                    }
                    // An aborting frame carries nothing.
                    return Ok(());
                }
                if kind == DATA {
                    self.take_data(id, flags, length)
                } else {
                    self.take_window(id, flags, length)
                }
            }
            PING => {
                if flags & SYN != 0 {
                    self.send_header(PING, ACK, 0, length);
                }
                Ok(())
            }
            GO_AWAY => Err(MuxError::GoneAway(length)),
            other => Err(MuxError::Type(other)),
        }
    }

    fn accept(&mut self, id: StreamId) -> Result<(), MuxError> {
        let fresh = id % 2 == 1 && id > self.last_peer_id;
        if self.role == Role::Host || !fresh {
            return Err(MuxError::Opening(id));
        }
        if self.streams.len() >= self.limits.streams {
            return Err(MuxError::TooManyStreams(self.limits.streams));
        }
        self.last_peer_id = id;
        self.streams.insert(id, Stream::new());
        self.send_header(WINDOW_UPDATE, ACK, id, 0);
        self.events.push_back(Event::Opened(id));
        Ok(())
    }

    fn take_data(&mut self, id: StreamId, flags: u16, length: u32) -> Result<(), MuxError> {
        let finish = flags & FIN != 0;
        match self.streams.get_mut(&id) {
            Some(stream) if stream.peer_finished => return Err(MuxError::WindowExceeded(id)),
            Some(stream) => {
                stream.receive_window = stream
                    .receive_window
                    .checked_sub(length)
                    .ok_or(MuxError::WindowExceeded(id))?;
                if length == 0 && finish {
                    stream.peer_finished = true;
                    self.note(Event::Readable(id));
                    self.drop_if_closed(id);
                }
            }
            // Data for a stream we aborted may still be under way: it is dropped, but not unbounded.
            None if length > WINDOW => return Err(MuxError::WindowExceeded(id)),
            None => {}
        }
        if length > 0 {
            self.incoming = Some(Incoming { stream: id, left: length as usize, finish });
        }
        Ok(())
    }

    fn take_window(&mut self, id: StreamId, flags: u16, length: u32) -> Result<(), MuxError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.send_window =
            stream.send_window.checked_add(length).ok_or(MuxError::WindowOverflow(id))?;
        if flags & FIN != 0 {
            stream.peer_finished = true;
            self.note(Event::Readable(id));
        }
        if let Some(stream) = self.streams.get_mut(&id)
            && length > 0
            && std::mem::take(&mut stream.starved)
        {
            self.note(Event::Writable(id));
        }
        self.drop_if_closed(id);
        Ok(())
    }
}
