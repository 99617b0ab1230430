//! The log of main's output: bytes, by stream, with times, in numbered pieces of bounded size.
//!
//! A record is: time (u64, nanoseconds since 1970), stream (u8: 1 or 2), length (u32), bytes; all
//! numbers little-endian. A record that was cut short by a crash is the end of its piece; the next
//! writer takes it off.

mod lines;
mod reader;
mod writer;

use std::io;

use serde::{Deserialize, Serialize};

pub use lines::Lines;
pub use reader::Reader;
pub use writer::Writer;

use crate::clock::Moment;

const HEADER: usize = 13;
const MAX_RECORD: u32 = 1 << 20;

/// Which of main's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One piece of output, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: Moment,
    /// Where.
    pub stream: Stream,
    /// What.
    pub bytes: Vec<u8>,
}

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPolicy {
    /// When a piece is full, in bytes.
    pub max_size: u64,
    /// How many pieces are kept: at least one.
    pub max_files: u32,
}

impl Default for LogPolicy {
    fn default() -> Self {
        LogPolicy { max_size: 10_000_000, max_files: 5 }
    }
}

/// The beginning of a record: time, stream, and how many bytes follow.
fn header(bytes: [u8; HEADER]) -> io::Result<(Moment, Stream, usize)> {
    let [t0, t1, t2, t3, t4, t5, t6, t7, stream, l0, l1, l2, l3] = bytes;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let stream = match stream {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        other => return Err(damaged(format!("a record of stream {other}"))),
    };
    if length > MAX_RECORD {
        return Err(damaged(format!("a record of {length} bytes")));
    }
    let time = Moment(u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]));
    Ok((time, stream, length as usize))
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the log is damaged: {what}"))
}

#[cfg(test)]
mod tests;
