//! Lines in the pieces of a log: each stream has its own, and they may come in pieces. Policy alone.

use super::{Entry, Stream};

/// Counts lines by their beginnings, and cuts the first ones off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    begun: u64,
    /// The number of the line that each stream is in the middle of.
    current: [Option<u64>; 2],
}

impl Lines {
    /// How many lines have begun.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Takes a piece and leaves of it what belongs to lines behind the first `skipped`.
    pub fn cut(&mut self, entry: &Entry, skipped: u64) -> Vec<u8> {
        let current = &mut self.current[usize::from(entry.stream == Stream::Stderr)];
        let mut kept = Vec::new();
        for piece in entry.bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = *current.get_or_insert_with(|| {
                self.begun += 1;
                self.begun - 1
            });
            if line >= skipped {
                kept.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                *current = None;
            }
        }
        kept
    }
}
