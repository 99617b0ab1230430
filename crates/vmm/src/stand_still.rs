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

    /// The order to go on is on its way.
    pub(crate) fn ends(&mut self) {
        self.lasted += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
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
        still.ends();
        assert_eq!(still.take(), Duration::ZERO, "it never stood still");
        let before = Instant::now();
        still.begins();
        let begun = Instant::now();
        still.begins();
        while begun.elapsed() < Duration::from_millis(5) {}
        still.ends();
        let lasted = still.take();
        assert!((Duration::from_millis(5)..=before.elapsed()).contains(&lasted), "{lasted:?}");
        assert_eq!(still.take(), Duration::ZERO, "nobody is told twice");
    }
}
