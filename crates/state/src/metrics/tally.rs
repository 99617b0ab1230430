//! Sums of what was counted, by name: also of what a newer version counts, which is kept and not shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Counter, Timing};

/// What was counted and timed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    #[serde(default)]
    counters: BTreeMap<String, u64>,
    #[serde(default)]
    timings: BTreeMap<String, Spread>,
}

/// How long something took, each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// All of it, in microseconds.
    #[serde(default)]
    pub sum_us: u64,
    /// How often it took at most so many microseconds and more than the bound before.
    #[serde(default)]
    pub buckets: BTreeMap<u64, u64>,
}

impl Spread {
    /// How often.
    pub fn count(&self) -> u64 {
        self.buckets.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn add(&mut self, other: &Spread) {
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        for (bound, count) in &other.buckets {
            let own = self.buckets.entry(*bound).or_default();
            *own = own.saturating_add(*count);
        }
    }
}

impl Tally {
    /// How often.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counters.get(&counter.key()).copied().unwrap_or_default()
    }

    /// How long.
    pub fn spread(&self, timing: Timing) -> Spread {
        self.timings.get(&timing.key()).cloned().unwrap_or_default()
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Tally) {
        for (name, count) in &other.counters {
            let own = self.counters.entry(name.clone()).or_default();
            *own = own.saturating_add(*count);
        }
        for (name, spread) in &other.timings {
            self.timings.entry(name.clone()).or_default().add(spread);
        }
    }

    pub(super) fn set(&mut self, counter: Counter, count: u64) {
        self.counters.insert(counter.key(), count);
    }

    pub(super) fn set_spread(&mut self, timing: Timing, spread: Spread) {
        self.timings.insert(timing.key(), spread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h12_what_another_version_counts_is_kept_and_bounds_may_differ() {
        let newer = r#"{"counters":{"restores":2,"of_tomorrow":7},"gauges":{"x":1},
            "timings":{"restore_duration":{"sum_us":9,"buckets":{"3":1,"70":4},"more":[]}}}"#;
        let mut sum: Tally = serde_json::from_str(newer).unwrap();
        let mut own = Tally::default();
        own.set(Counter::Restores, 40);
        own.set_spread(Timing::Restore, Spread { sum_us: 1, buckets: [(50, 5), (70, 1)].into() });
        sum.add(&own);
        assert_eq!(sum.count(Counter::Restores), 42);
        assert_eq!(sum.counters["of_tomorrow"], 7);
        let spread = sum.spread(Timing::Restore);
        assert_eq!((spread.sum_us, spread.count()), (10, 11));
        assert_eq!(spread.buckets, [(3, 1), (50, 5), (70, 5)].into());
        // And one that counts less.
        assert_eq!(serde_json::from_str::<Tally>("{}").unwrap(), Tally::default());
    }

    #[test]
    fn h12_sums_do_not_wrap() {
        let mut sum = Tally::default();
        sum.set(Counter::Execs, u64::MAX);
        sum.add(&sum.clone());
        assert_eq!(sum.count(Counter::Execs), u64::MAX);
    }
}
