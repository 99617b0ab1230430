//! By how much a guest's clock is wrong. Asked by [`greeting`](crate::greeting) before anything of a box
//! runs (contract G10), and by the [supervisor](crate::supervisor) when a box goes on that stood still.
//!
//! A guest can't know how long a word of the host was on its way; on a busy host that is long. But the host
//! knows when it asked and when it was answered, and that the guest read its clock in between.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boxwood_wire::message::ControlRequest;

use crate::note::note;
use crate::orders::Orders;

/// What a clock may be off by once it was set right: G10 allows 50 ms.
pub(crate) const GOOD: Duration = Duration::from_millis(30);
/// A clock that is off by less, whatever came in between, is left as it is: each call that a guest makes for
/// the first time costs a start a millisecond.
const NEAR: Duration = Duration::from_millis(20);
/// How often a guest is asked that takes longer than that to answer. Then its host is so busy that
/// nothing is known better.
const ENOUGH: u32 = 16;

/// When a guest was asked for its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    time: SystemTime,
    since: Instant,
}

/// By how much a guest's clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Off {
    /// Nanoseconds that it lacks.
    pub(crate) by_ns: i64,
    /// By how much this can be wrong itself.
    pub(crate) within: Duration,
}

impl Asked {
    pub(crate) fn now() -> Self {
        Asked { time: SystemTime::now(), since: Instant::now() }
    }

    /// The host's time, in nanoseconds since 1970.
    pub(crate) fn unix_time_ns(&self) -> u64 {
        let time = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The answer has come this moment.
    pub(crate) fn answered(self, guest_ns: u64) -> Off {
        self.answered_after(self.since.elapsed(), guest_ns)
    }

    fn answered_after(self, elapsed: Duration, guest_ns: u64) -> Off {
        let within = elapsed / 2;
        let right = i128::from(self.unix_time_ns()) + within.as_nanos() as i128;
        let by_ns = right - i128::from(guest_ns);
        // A guest may say anything: the most that can be said back is 292 years.
        let by_ns = by_ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        match Duration::from_nanos(by_ns.unsigned_abs()) + within <= NEAR {
            true => Off { by_ns: 0, within: NEAR },
            false => Off { by_ns, within },
        }
    }
}

impl Off {
    /// Of two answers about the same clock, the one that tells more.
    fn or_nearer(self, other: Off) -> Off {
        if other.within < self.within { other } else { self }
    }
}

/// What a guest that is greeted has answered so far. Its clock is not touched in between: what was found out
/// before stays true.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    count: u32,
    best: Option<Off>,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It tells too little: the guest is asked again.
    Ask,
    /// This is known, and nothing better will be.
    Set(Off),
}

impl Answers {
    /// One more has come.
    pub(crate) fn add(&mut self, off: Off) -> Next {
        let best = *self.best.insert(self.best.map_or(off, |best| best.or_nearer(off)));
        self.count += 1;
        if best.within > GOOD && self.count < ENOUGH { Next::Ask } else { Next::Set(best) }
    }
}

/// Puts the clock of a guest forward that goes on after it stood still for so long. It is not set: root
/// in a box may have made its time another.
pub(crate) fn put_forward(by: Duration, orders: &Orders) {
    if by.is_zero() {
        return;
    }
    let by_ns = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
    if orders.send(ControlRequest::SetClock { by_ns }, || ()).is_err() {
        note!("the box's clock is late by {by:?}: its guest takes no more orders");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_a_guest_is_off_by_what_it_reads_and_half_of_the_way() {
        let asked = Asked { time: UNIX_EPOCH + Duration::from_secs(100), since: Instant::now() };
        let off = |read| asked.answered_after(Duration::from_millis(8), read);
        let within = Duration::from_millis(4);
        // At the most it was read when it was asked for, and has stood at this ever since.
        assert_eq!(off(99_990_000_000), Off { by_ns: 0, within: NEAR });
        assert_eq!(off(99_987_000_000), Off { by_ns: 17_000_000, within });
        assert_eq!(off(99_000_000_000), Off { by_ns: 1_004_000_000, within });
        assert_eq!(off(101_000_000_000), Off { by_ns: -996_000_000, within });
        assert_eq!(off(u64::MAX).by_ns, i64::MIN);
    }

    #[test]
    fn g10_of_several_answers_the_one_that_tells_most_counts_whenever_it_came() {
        let off = |by_ns, ms| Off { by_ns, within: Duration::from_millis(ms) };
        let busy = GOOD.as_millis() as u64 + 10;
        for nearest in 0..ENOUGH {
            let mut answers = Answers::default();
            let came = (0..ENOUGH).map(|n| match n == nearest {
                true => off(7, busy),
                false => off(100 + i64::from(n), busy + 5 + u64::from(n % 3)),
            });
            let next: Vec<Next> = came.map(|off| answers.add(off)).collect();
            let (last, before) = next.split_last().unwrap();
            assert!(before.iter().all(|next| *next == Next::Ask), "{next:?}");
            assert_eq!(*last, Next::Set(off(7, busy)), "it was answer {nearest}");
        }
        // A good one is enough, however little was known before.
        let mut answers = Answers::default();
        assert_eq!(answers.add(off(1, busy)), Next::Ask);
        assert_eq!(answers.add(Off { by_ns: 2, within: GOOD }), Next::Set(off(2, 30)));
    }
}
