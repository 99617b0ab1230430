//! What waits to be sent on the channel, in one piece. Part of [`mux`](super): it puts frames in, and whoever
//! has the channel takes bytes out.

/// Bytes in the order in which they go.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Those from `start` to `end` wait. The others are room that was used before, and is not cleared when it
    /// is used again.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.grow(bytes.len());
    }

    /// Room for so many bytes behind those that wait; [`grow`](Self::grow) takes some of it.
    pub(super) fn room(&mut self, count: usize) -> &mut [u8] {
        // Moved only by at least their own length, so that who takes little at a time costs little.
        if self.end + count > self.bytes.len() && self.start >= self.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        if self.end + count > self.bytes.len() {
            self.bytes.resize(self.end + count, 0);
        }
        &mut self.bytes[self.end..self.end + count]
    }

    /// So many bytes that were written into the [`room`](Self::room) wait from now on.
    pub(super) fn grow(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.bytes.len());
        self.end += count;
    }

    /// The first of them were sent.
    pub(super) fn sent(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.start == self.end {
            // What comes next is then put where memory was just used.
            (self.start, self.end) = (0, 0);
        }
    }
}
