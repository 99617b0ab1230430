//! What was counted and timed. A client passes over what it does not know: more may be added to each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is at `/metrics`, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metrics {
    /// What only grows, until the home is made anew.
    #[serde(default)]
    pub counters: Vec<Metric>,
    /// What is there now.
    #[serde(default)]
    pub gauges: Vec<Metric>,
    /// How long things took.
    #[serde(default)]
    pub histograms: Vec<Histogram>,
}

/// A number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metric {
    /// Its name, as Prometheus shows it.
    pub name: String,
    /// What tells it from others with that name.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it is.
    #[serde(default)]
    pub help: String,
    /// How much it is.
    pub value: u64,
}

/// Durations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Histogram {
    /// Its name, as Prometheus shows it.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub help: String,
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum_seconds: f64,
    /// How many were so short, each with those of the buckets before it. What was longer than all of
    /// them is in the count alone.
    pub buckets: Vec<Bucket>,
}

/// The durations up to a bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bucket {
    /// The bound.
    pub le_seconds: f64,
    /// How many.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h12_a_client_passes_over_what_a_newer_daemon_says() {
        let text = r#"{"counters":[{"name":"a_total","value":7,"labels":{"x":"y"},"unit":"bytes"}],
            "summaries":[{"name":"of_tomorrow"}],
            "histograms":[{"name":"h","count":2,"sum_seconds":1.5,"native":{},
                "buckets":[{"le_seconds":1.0,"count":1,"exemplar":null}]}]}"#;
        let metrics: Metrics = serde_json::from_str(text).unwrap();
        assert_eq!((metrics.counters[0].value, metrics.histograms[0].count), (7, 2));
        assert_eq!(metrics.counters[0].labels["x"], "y");
        assert!(metrics.gauges.is_empty());
    }
}
