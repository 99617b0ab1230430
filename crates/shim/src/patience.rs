//! How long a guest may take to say what becomes of a session: policy alone, in the time that its box has had
//! (see [`guest_time`](crate::guest_time)). Kept by [`sessions`](crate::sessions).

use std::time::Duration;

/// What a guest may take for its first word about a session: then its client hears that nobody knows whether
/// it began.
const FIRST_WORD: Duration = Duration::from_secs(60);
/// What a guest may take to say that a session's time was up, when that is all it has to say. Then the
/// client hears that nobody knows what became of it, since there are people who wait for no longer than that.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that it may say meanwhile: much more than there can be on their way.
const LAST_BYTES: usize = 4 << 20;

/// A guest that has not said in time what it had to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Late {
    /// It has said nothing at all.
    #[error("its guest does not answer: whether it was started is unknown")]
    Silent,
    /// It did not say how the session ended.
    #[error("its time was up and its guest does not answer: what became of it is unknown")]
    Overdue,
}

/// What is left of the patience with a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    timeout: Option<Duration>,
    /// When its first word is late, if that has not come.
    first_word: Option<Duration>,
    /// When the session's time is up.
    up: Option<Duration>,
    /// What it may take beyond that in all while it is listened to: a slow client is no silence of the guest's.
    left: Duration,
    bytes: usize,
}

impl Patience {
    /// With a session that was asked for now and may take so long.
    pub(crate) fn begin(timeout: Option<Duration>, now: Duration) -> Patience {
        Patience {
            timeout,
            first_word: Some(now + FIRST_WORD),
            up: timeout.map(|timeout| now.saturating_add(timeout)),
            left: BEYOND_TIMEOUT,
            bytes: LAST_BYTES,
        }
    }

    /// The session has begun now.
    pub(crate) fn started(&mut self, now: Duration) {
        *self = Patience { first_word: None, ..Patience::begin(self.timeout, now) };
    }

    /// When the next word is late, if it is listened to from now on.
    pub(crate) fn limit(&self, now: Duration) -> Option<Duration> {
        let up = self.up.map(|up| up.max(now).saturating_add(self.left));
        self.first_word.into_iter().chain(up).min()
    }

    /// What it means that the limit has passed.
    pub(crate) fn late(&self) -> Late {
        match self.first_word {
            Some(first) if self.up.is_none_or(|up| first <= up.saturating_add(self.left)) => {
                Late::Silent
            }
            _ => Late::Overdue,
        }
    }

    /// It has said so much, and was listened to from then to then.
    pub(crate) fn heard(
        &mut self,
        bytes: usize,
        (from, to): (Duration, Duration),
    ) -> Result<(), Late> {
        let Some(up) = self.up.filter(|up| *up <= to) else { return Ok(()) };
        self.left = self.left.saturating_sub(to.saturating_sub(up.max(from)));
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Late::Overdue)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn g4_a_guest_that_says_a_byte_now_and_then_is_late_all_the_same() {
        let mut patience = Patience::begin(Some(seconds(4)), seconds(100));
        patience.started(seconds(101));
        assert_eq!(patience.limit(seconds(101)), Some(seconds(115)));
        patience.heard(1, (seconds(101), seconds(110))).unwrap();
        // It took 5 of its 10 seconds.
        assert_eq!(patience.limit(seconds(110)), Some(seconds(115)));
        // Its client took nothing for a while.
        assert_eq!(patience.limit(seconds(210)), Some(seconds(215)));
        patience.heard(1, (seconds(210), seconds(215))).unwrap();
        assert_eq!(patience.limit(seconds(300)), Some(seconds(300)));
        assert_eq!(patience.late(), Late::Overdue);
        // Nor does a flood keep it off.
        let many = std::iter::repeat_with(|| patience.heard(1 << 16, (seconds(300), seconds(300))));
        assert_eq!(many.take(1000).find(Result::is_err), Some(Err(Late::Overdue)));
    }

    #[test]
    fn g1_the_first_word_about_a_session_is_not_awaited_for_ever() {
        let mut patience = Patience::begin(None, seconds(5));
        assert_eq!(patience.limit(seconds(5)), Some(seconds(65)));
        assert_eq!(patience.late(), Late::Silent);
        patience.started(seconds(6));
        assert_eq!(patience.limit(seconds(6)), None);
        patience.heard(usize::MAX, (seconds(6), Duration::MAX)).unwrap();
        let long = Patience::begin(Some(Duration::MAX), seconds(5));
        assert_eq!((long.limit(seconds(5)), long.late()), (Some(seconds(65)), Late::Silent));
        let short = Patience::begin(Some(seconds(1)), seconds(5));
        assert_eq!((short.limit(seconds(5)), short.late()), (Some(seconds(16)), Late::Overdue));
    }
}
