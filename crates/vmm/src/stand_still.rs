//! How long a VM's vCPUs stood still while the host's time went on: by so much its guest's clock is late
//! then. Kept by [`Vm`](crate::Vm).

use std::time::{Duration, Instant};

/// The time of the stops of a VM that nobody has put right yet.
///
/// It is counted from the order to stop to the order to go on. Both take QEMU the same way, so what that
/// takes is on neither side.
#[derive(Debug, Default)]
pub(crate) struct StandStill {
    since: Option<Instant>,
    lasted: Duration,
}

impl StandStill {
    /// The order to stop is on its way.
    pub(crate) fn begins(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// It goes on since the order to was on its way, at `at`.
    pub(crate) fn ended(&mut self, at: Instant) {
        let stood = |since| at.saturating_duration_since(since);
        self.lasted += self.since.take().map_or(Duration::ZERO, stood);
    }

    /// Nobody knows whether it stood still.
    pub(crate) fn forget(&mut self) {
        self.since = None;
    }

    /// All of it that was not taken before.
    pub(crate) fn take(&mut self) -> Duration {
        std::mem::take(&mut self.lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_each_stop_counts_once_from_its_first_order_on() {
        let mut still = StandStill::default();
        still.ended(Instant::now());
        assert_eq!(still.take(), Duration::ZERO, "it never stood still");
        let before = Instant::now();
        still.begins();
        let begun = Instant::now();
        still.begins();
        while begun.elapsed() < Duration::from_millis(5) {}
        still.ended(Instant::now());
        let lasted = still.take();
        assert!((Duration::from_millis(5)..=before.elapsed()).contains(&lasted), "{lasted:?}");
        assert_eq!(still.take(), Duration::ZERO, "nobody is told twice");
        still.begins();
        still.forget();
        still.ended(Instant::now());
        assert_eq!(still.take(), Duration::ZERO, "a stop that failed is none");
    }
}
