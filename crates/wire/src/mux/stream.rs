//! What one end keeps of a stream. Part of [`mux`](super).

use std::collections::VecDeque;

use super::WINDOW;

#[derive(Debug)]
pub(super) struct Stream {
    /// What came and was not read yet; at most one window.
    pub(super) received: VecDeque<u8>,
    /// What the peer may still send.
    pub(super) receive_window: u32,
    /// What was read and not granted again yet.
    pub(super) consumed: u32,
    /// What we may still send.
    pub(super) send_window: u32,
    /// The peer half-closed.
    pub(super) peer_finished: bool,
    /// We half-closed.
    pub(super) finished: bool,
    /// A writer was turned away and waits for [`Event::Writable`].
    pub(super) starved: bool,
    /// Nobody reads here any more: what still comes is dropped.
    pub(super) deaf: bool,
}

impl Stream {
    pub(super) fn new() -> Self {
        Stream {
            received: VecDeque::new(),
            receive_window: WINDOW,
            consumed: 0,
            send_window: WINDOW,
            peer_finished: false,
            finished: false,
            starved: false,
            deaf: false,
        }
    }
}
