//! What a [`Link`](super::Link) may send: all there is, or, while its box is captured, no more than waited before.

/// What may be sent: first these bytes, which are outside the streams, then so many of the streams'.
#[derive(Debug)]
pub(super) struct Cork {
    pub(super) first: Vec<u8>,
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Everything,
    /// So many bytes and no more.
    Only(usize),
}

impl Default for Cork {
    fn default() -> Self {
        Cork { first: Vec::new(), then: Then::Everything }
    }
}

impl Cork {
    /// What may be sent of a stream's output.
    pub(super) fn allowed<'a>(&self, output: &'a [u8]) -> &'a [u8] {
        match self.then {
            Then::Everything => output,
            Then::Only(count) => &output[..output.len().min(count)],
        }
    }
}
