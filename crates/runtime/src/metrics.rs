//! `metrics`: what was counted in a home, and the boxes that are in it (contract H12); as OpenMetrics, which
//! Prometheus reads.

use std::fmt;
use std::time::Duration;

use boxwood_state::metrics::{Counter, Series, Spread, Tally, Timing};
use boxwood_types::BoxState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use crate::{Error, Runtime};

/// What all names begin with.
pub const PREFIX: &str = "boxwood";
/// What such a text is, for who asks over HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const STATES: [BoxState; 8] = [
    BoxState::Created,
    BoxState::Starting,
    BoxState::Running,
    BoxState::Paused,
    BoxState::Restarting,
    BoxState::Stopping,
    BoxState::Exited,
    BoxState::Failed,
];

/// What there is to tell about a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    tally: Tally,
    boxes: Vec<(BoxState, u64)>,
}

impl Runtime {
    /// What was counted in this home so far, and its boxes by their states. Nobody is asked: no box can
    /// keep this waiting.
    ///
    /// # Errors
    /// When the home can't be read.
    pub fn metrics(&self) -> Result<Metrics, Error> {
        // What recovery counts belongs to it.
        let listed = self.list(&mut |_| {})?;
        let count = |state| listed.iter().filter(|one| one.record.state == state).count() as u64;
        let boxes = STATES.map(|state| (state, count(state))).to_vec();
        Ok(Metrics { tally: self.home.tally()?, boxes })
    }
}

impl Metrics {
    /// How often something happened.
    pub fn counters(&self) -> impl Iterator<Item = (Series, u64)> {
        Counter::ALL.into_iter().map(|counter| (counter.series(), self.tally.count(counter)))
    }

    /// How long something took.
    pub fn timings(&self) -> impl Iterator<Item = (Series, Spread)> {
        Timing::ALL.into_iter().map(|timing| (timing.series(), self.tally.spread(timing)))
    }

    /// How many boxes are in each state.
    pub fn boxes(&self) -> &[(BoxState, u64)] {
        &self.boxes
    }

    /// All of it as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("text can be written to memory");
        text
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = ConstGauge::<i64>::TYPE;
        let mut family = encoder.encode_descriptor("boxes", "Boxes by their states", None, kind)?;
        for (state, count) in &self.boxes {
            let count = ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&[("state", state.to_string())])?)?;
        }
        let counters: Vec<(Series, u64)> = self.counters().collect();
        for family in counters.chunk_by(|(one, _), (next, _)| one.family == next.family) {
            let series = family[0].0;
            let kind = ConstCounter::<u64>::TYPE;
            let mut encoder = encoder.encode_descriptor(series.family, series.help, None, kind)?;
            for (series, count) in family {
                counter(&mut encoder, series, *count)?;
            }
        }
        for (series, spread) in self.timings() {
            let kind = MetricType::Histogram;
            let unit = Some(&Unit::Seconds);
            let mut encoder = encoder.encode_descriptor(series.family, series.help, unit, kind)?;
            let bound = |micros: u64| match micros {
                u64::MAX => f64::INFINITY,
                micros => seconds(micros),
            };
            let mut buckets = spread.buckets.clone();
            buckets.entry(u64::MAX).or_default();
            let buckets: Vec<(f64, u64)> =
                buckets.into_iter().map(|(micros, count)| (bound(micros), count)).collect();
            let sum = seconds(spread.sum_us);
            encoder.encode_histogram::<NoLabelSet>(sum, spread.count(), &buckets, None)?;
        }
        Ok(())
    }
}

fn counter(family: &mut MetricEncoder<'_>, series: &Series, count: u64) -> fmt::Result {
    match series.label {
        Some(label) => ConstCounter::new(count).encode(family.encode_family(&[label])?),
        None => family.encode_counter::<NoLabelSet, u64, f64>(&count, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h12_the_text_is_openmetrics() {
        let tally = serde_json::from_str(
            r#"{"counters":{"restores":3,"health_changes_unhealthy":2,"of_tomorrow":1},
                "timings":{"exec_duration":{"sum_us":4500000,"buckets":{"5000":1,"1000000":2,
                    "18446744073709551615":1}}}}"#,
        );
        let boxes = vec![(BoxState::Running, 2), (BoxState::Exited, 0)];
        let text = Metrics { tally: tally.unwrap(), boxes }.text();
        for expected in [
            "# TYPE boxwood_boxes gauge\nboxwood_boxes{state=\"running\"} 2\n\
             boxwood_boxes{state=\"exited\"} 0\n",
            "# TYPE boxwood_restores counter\nboxwood_restores_total 3\n",
            "# TYPE boxwood_health_changes counter\n\
             boxwood_health_changes_total{to=\"healthy\"} 0\n\
             boxwood_health_changes_total{to=\"unhealthy\"} 2\n",
            "# TYPE boxwood_exec_duration_seconds histogram\n",
            "boxwood_exec_duration_seconds_sum 4.5\nboxwood_exec_duration_seconds_count 4\n\
             boxwood_exec_duration_seconds_bucket{le=\"0.005\"} 1\n\
             boxwood_exec_duration_seconds_bucket{le=\"1.0\"} 3\n\
             boxwood_exec_duration_seconds_bucket{le=\"+Inf\"} 4\n",
            "boxwood_start_duration_seconds_bucket{le=\"+Inf\"} 0\n",
        ] {
            assert!(text.contains(expected), "no {expected:?} in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(!text.contains("of_tomorrow"));
        let heads = text.lines().filter(|line| line.starts_with("# TYPE"));
        let mut families: Vec<&str> = heads.filter_map(|line| line.split(' ').nth(2)).collect();
        let all = families.len();
        families.dedup();
        assert_eq!(families.len(), all, "a family is in one piece");
    }
}
