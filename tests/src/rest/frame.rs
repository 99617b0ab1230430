//! The frames of a stream.

use serde_json::Value;

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

/// Takes a frame out of these bytes, if it is whole.
pub(super) fn frame(bytes: &mut Vec<u8>) -> Option<Frame> {
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
