//! Signs of life that the guest gives by itself, as often as the host has asked for: so the host has nothing
//! to do for each but to hear it. Part of `guest`; what was asked for ends with its connection.

use std::time::{Duration, Instant};

use boxwood_wire::message::ControlReply;
use boxwood_wire::mux::StreamId;

use crate::guest::Guest;
use crate::hold::Hold;

/// The longest time between two that makes a difference: a year.
const MAX_EVERY_MS: u64 = 365 * 24 * 3600 * 1000;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// The control stream that it was asked for on.
    stream: StreamId,
    nonce: u64,
    every: Duration,
    next: Instant,
}

impl Beat {
    /// From now on so often; `None` for never.
    fn begin(stream: StreamId, nonce: u64, every_ms: u64, now: Instant) -> Option<Beat> {
        let every = Duration::from_millis(every_ms.min(MAX_EVERY_MS));
        (every_ms > 0).then(|| Beat { stream, nonce, every, next: now + every })
    }

    /// Whether it is time; the next is as long after this one, however late it is.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.every;
        }
        due
    }
}

impl Guest {
    /// From now on gives signs of life so often, instead of what was asked for before.
    pub(crate) fn begin_beat(&mut self, stream: StreamId, nonce: u64, every_ms: u64) {
        if let Some(connection) = self.connection() {
            connection.beat = Beat::begin(stream, nonce, every_ms, Instant::now());
        }
    }

    /// When the next one is due. What is about to be captured gives none.
    pub(crate) fn next_beat(&self) -> Option<Instant> {
        match self.hold {
            Hold::No => self.open().and_then(|connection| connection.beat).map(|beat| beat.next),
            Hold::Asked { .. } | Hold::Wanted => None,
        }
    }

    /// Gives one if it is due. Who has not taken the last ones gets no more.
    pub(crate) fn beat_in_time(&mut self) {
        if self.next_beat().is_none() {
            return;
        }
        let counters = self.counters;
        let Some(connection) = self.connection() else { return };
        let Some(beat) = &mut connection.beat else { return };
        let (due, Beat { stream, nonce, .. }) = (beat.is_due(Instant::now()), *beat);
        if due && !connection.has_output() && connection.room(stream) > 0 {
            connection.reply(stream, &ControlReply::Pong { nonce, counters });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h9_a_guest_gives_each_sign_of_life_once_and_none_that_it_was_late_for() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        let mut beat = Beat::begin(1, 7, 100, began).unwrap();
        assert!(!beat.is_due(after(99)) && beat.is_due(after(100)) && !beat.is_due(after(100)));
        // It had no time for a while: there is one, and the next at its time.
        assert!(beat.is_due(after(1000)) && !beat.is_due(after(1099)) && beat.is_due(after(1100)));
        assert_eq!(Beat::begin(1, 7, 0, began), None);
        assert!(!Beat::begin(1, 7, u64::MAX, began).unwrap().is_due(after(1_000_000)));
    }
}
