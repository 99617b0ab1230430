//! What one end keeps of a stream beside what the mux does: its service, and the frame that is being read or
//! waits to be sent. Part of [`connection`](super).

use boxwood_wire::frame::{self, HEADER, Kind};
use boxwood_wire::mux::{Mux, StreamId};

/// What is read of a stream before its payload is: the number of its service, and then headers.
#[derive(Default)]
pub(super) struct Head {
    bytes: [u8; HEADER],
    have: usize,
}

impl Head {
    /// The next `N` bytes of a stream, once they have come.
    pub(super) fn read<const N: usize>(&mut self, mux: &mut Mux, id: StreamId) -> Option<[u8; N]> {
        while self.have < N {
            let bytes = mux.peek(id);
            let count = bytes.len().min(N - self.have);
            if count == 0 {
                return None;
            }
            self.bytes[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            mux.take(id, count);
        }
        self.have = 0;
        self.bytes.first_chunk().copied()
    }
}

/// A frame whose payload is not all there yet.
pub(super) struct Unfinished {
    pub(super) kind: Kind,
    pub(super) left: usize,
    /// What came of it, but for input, which is handed on as it comes.
    pub(super) payload: Vec<u8>,
}

/// One stream of a connection.
#[derive(Default)]
pub(super) struct Stream {
    /// Its service, once its number has come.
    pub(super) port: Option<u32>,
    pub(super) head: Head,
    pub(super) unfinished: Option<Unfinished>,
    /// Frames the stream had no room for: a value, or the last bytes of a frame.
    pub(super) waiting: Vec<u8>,
    /// To be half-closed when nothing is waiting any more.
    pub(super) finishing: bool,
}

impl Stream {
    /// Passes on what is input of these bytes, which come behind all that was read; says how many were read.
    pub(super) fn pass_on(
        &mut self,
        bytes: &[u8],
        mut session: impl FnMut(&[u8]) -> usize,
    ) -> usize {
        let mut read = 0;
        while read < bytes.len() {
            read += self.input_head(&bytes[read..]);
            let Some(frame) = self.unfinished.as_mut().filter(|frame| frame.kind == Kind::Stdin)
            else {
                break;
            };
            let input = &bytes[read..];
            let input = &input[..input.len().min(frame.left)];
            let count = if input.is_empty() { 0 } else { session(input) };
            read += count;
            frame.left -= count;
            if frame.left > 0 {
                break;
            }
            self.unfinished = None;
        }
        read
    }

    /// Reads the header of a frame of input, if these bytes begin with one; says how many bytes that took.
    fn input_head(&mut self, bytes: &[u8]) -> usize {
        let between = self.port.is_some() && self.unfinished.is_none() && self.head.have == 0;
        let header = bytes.first_chunk().filter(|_| between).map(frame::parse_header);
        match header {
            Some(Ok((kind @ Kind::Stdin, left))) => {
                self.unfinished = Some(Unfinished { kind, left, payload: Vec::new() });
                HEADER
            }
            _ => 0,
        }
    }
}
