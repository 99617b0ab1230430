//! How a session ends that nobody hears any more: HUP at once, then TERM, then KILL (contract G6).
//! Policy alone: `session` does what it says.

use std::time::{Duration, Instant};

use boxwood_types::Signal;

/// From HUP to TERM.
const UNTIL_TERM: Duration = Duration::from_secs(2);
/// From TERM to KILL.
const UNTIL_KILL: Duration = Duration::from_secs(5);

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// HUP was sent; TERM is next.
    HungUp {
        /// When.
        term_at: Instant,
    },
    /// TERM was sent; KILL is next.
    Asked {
        /// When.
        kill_at: Instant,
    },
    /// KILL was sent: it is over.
    Killed,
}

impl Ending {
    /// HUP is sent at `now`.
    pub(crate) fn begin(now: Instant) -> Self {
        Ending::HungUp { term_at: now + UNTIL_TERM }
    }

    /// When [`step`](Self::step) has something to do.
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Ending::HungUp { term_at: at } | Ending::Asked { kill_at: at } => Some(at),
            Ending::Killed => None,
        }
    }

    /// The signal to send at `now`, if one is due, and what comes after it.
    pub(crate) fn step(self, now: Instant) -> Option<(Signal, Ending)> {
        if self.deadline().is_none_or(|at| at > now) {
            return None;
        }
        match self {
            // HungUp -- its time --> Asked
            Ending::HungUp { .. } => {
                Some((Signal::TERM, Ending::Asked { kill_at: now + UNTIL_KILL }))
            }
            // Asked -- its time --> Killed
            Ending::Asked { .. } => Some((Signal::KILL, Ending::Killed)),
            Ending::Killed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g6_hup_is_followed_by_term_and_kill_in_their_time() {
        let now = Instant::now();
        let ending = Ending::begin(now);
        assert_eq!(ending.step(now + UNTIL_TERM - Duration::from_millis(1)), None);
        let at = now + UNTIL_TERM;
        let (signal, ending) = ending.step(at).unwrap();
        assert_eq!((signal, ending.deadline()), (Signal::TERM, Some(at + UNTIL_KILL)));
        assert_eq!(ending.step(at), None);
        assert_eq!(ending.step(at + UNTIL_KILL), Some((Signal::KILL, Ending::Killed)));
        assert_eq!(Ending::Killed.step(at + UNTIL_KILL), None);
    }
}
