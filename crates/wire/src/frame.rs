//! Frames inside a stream: what a session carries each way.
//!
//! A stream starts with the port number of its service (u32, little-endian). Then come frames: kind
//! (u8), length (u32, little-endian), payload. Standard streams travel as bytes; a kind that carries
//! a value carries it in postcard ([`crate::message`]).

/// The port of the control service: signals, stop, counters.
pub const CONTROL_PORT: u32 = 4087;
/// The port of main: its start, its standard streams, its end.
pub const MAIN_PORT: u32 = 4088;
/// The port of exec sessions.
pub const EXEC_PORT: u32 = 4089;
/// The port of terminal sessions.
pub const PTY_PORT: u32 = 4090;

/// The longest payload of a frame that carries bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// The longest payload of a frame that carries a value: room for the largest command line and
/// environment Linux takes (execve(2): a quarter of an 8 MiB stack), with some to spare.
pub const MAX_VALUE: usize = 4 << 20;
/// Length of a frame's header.
pub const HEADER: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A value of the service's request type, to the guest.
    Request = 1,
    /// A value of the service's reply type, from the guest.
    Reply = 2,
    /// Bytes for standard input.
    Stdin = 3,
    /// No more standard input: a half-close.
    StdinEof = 4,
    /// Bytes of standard output.
    Stdout = 5,
    /// Bytes of standard error.
    Stderr = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Stdin,
            4 => Kind::StdinEof,
            5 => Kind::Stdout,
            6 => Kind::Stderr,
            _ => return None,
        })
    }

    fn limit(self) -> usize {
        match self {
            Kind::Request | Kind::Reply => MAX_VALUE,
            Kind::Stdin | Kind::Stdout | Kind::Stderr => MAX_BYTES,
            Kind::StdinEof => 0,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: Kind,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The kind is none of ours.
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    /// The length is over the kind's limit.
    #[error("a {kind:?} frame of {length} bytes; {limit} is the limit")]
    TooLong {
        /// The kind.
        kind: Kind,
        /// What its header claims.
        length: u32,
        /// The limit.
        limit: usize,
    },
    /// The payload is no value of the expected type.
    #[error("a frame that can't be decoded")]
    Malformed(#[source] postcard::Error),
}

/// The header of a frame with a payload of `length` bytes.
pub fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= kind.limit());
    let length = (length as u32).to_le_bytes();
    [kind as u8, length[0], length[1], length[2], length[3]]
}

/// What a frame's header says: what it carries, and how much.
///
/// # Errors
/// When it is no header: the stream can't go on.
pub fn parse_header(header: &[u8; HEADER]) -> Result<(Kind, usize), FrameError> {
    let kind = Kind::from_byte(header[0]).ok_or(FrameError::UnknownKind(header[0]))?;
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    if length as usize > kind.limit() {
        return Err(FrameError::TooLong { kind, length, limit: kind.limit() });
    }
    Ok((kind, length as usize))
}

/// A frame with a value in it.
///
/// # Errors
/// When the value is larger than a frame may be.
pub fn value<T: serde::Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, FrameError> {
    let payload = postcard::to_allocvec(value).expect("plain data always encodes");
    if payload.len() > kind.limit() {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        return Err(FrameError::TooLong { kind, length, limit: kind.limit() });
    }
    let mut bytes = header(kind, payload.len()).to_vec();
    bytes.extend(payload);
    Ok(bytes)
}

/// The value in a frame's payload.
///
/// # Errors
/// When it is none.
pub fn parse<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    postcard::from_bytes(payload).map_err(FrameError::Malformed)
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer was given out. It is cut off when more comes, not for each frame: a
    /// flood of small frames costs no more than their bytes.
    given: usize,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.given);
        self.given = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The port number at the start of a stream, once it has come.
    pub fn port(&mut self) -> Option<u32> {
        let port = u32::from_le_bytes(*self.rest().first_chunk()?);
        self.given += 4;
        Some(port)
    }

    /// The next frame, once it is whole.
    ///
    /// # Errors
    /// When the header is wrong: the stream can't go on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.rest().first_chunk::<HEADER>() else { return Ok(None) };
        let (kind, length) = parse_header(header)?;
        let end = HEADER + length;
        let Some(payload) = self.rest().get(HEADER..end) else { return Ok(None) };
        let payload = payload.to_vec();
        self.given += end;
        Ok(Some(Frame { kind, payload }))
    }

    /// Whether no byte of an unfinished frame is waiting.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.given..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn g5_frames_come_out_as_they_went_in_whatever_the_pieces(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            piece in 1usize..64,
        ) {
            let mut bytes = EXEC_PORT.to_le_bytes().to_vec();
            for payload in &payloads {
                bytes.extend(header(Kind::Stdout, payload.len()));
                bytes.extend(payload);
            }
            let mut decoder = Decoder::new();
            let mut port = None;
            let mut seen = Vec::new();
            for chunk in bytes.chunks(piece) {
                decoder.push(chunk);
                if port.is_none() {
                    port = decoder.port();
                    if port.is_none() { continue; }
                }
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame.payload);
                }
            }
            prop_assert_eq!(port, Some(EXEC_PORT));
            prop_assert_eq!(seen, payloads);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut decoder = Decoder::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_arrives() {
        let mut decoder = Decoder::new();
        decoder.push(&[Kind::Stdin as u8, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong { .. })));
        let mut decoder = Decoder::new();
        decoder.push(&[77, 0, 0, 0, 0]);
        assert!(matches!(decoder.next_frame(), Err(FrameError::UnknownKind(77))));
    }
}
