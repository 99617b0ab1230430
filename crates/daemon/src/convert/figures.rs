//! What boxes take, and what was counted, as it is told.

use std::time::Duration;

use boxwood_api::{BoxProcesses, BoxStats, Bucket, Histogram, Metric};
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::control;
use boxwood_runtime::{Listed, METRICS_PREFIX, Metrics, Processes};

use super::value::rfc3339;

/// What a box takes of the host.
pub(crate) fn stats(
    listed: &Listed,
    usage: Option<control::Usage>,
    processes: Option<usize>,
) -> BoxStats {
    let usage = usage.map(|usage| boxwood_api::Usage {
        cpu_ns: usage.cpu_ns,
        memory_bytes: usage.memory,
        read_bytes: usage.read,
        written_bytes: usage.written,
    });
    BoxStats {
        id: listed.spec.id.to_string(),
        name: listed.spec.name.to_string(),
        time: rfc3339(Moment::now()),
        memory_limit_bytes: listed.spec.shape.memory_bytes(),
        usage,
        processes: processes.map(|count| count as u64),
    }
}

/// The processes in a box.
pub(crate) fn processes(found: Processes) -> BoxProcesses {
    let process = |one: control::BoxProcess| boxwood_api::BoxProcess {
        pid: one.pid,
        ppid: one.ppid,
        user: one.user,
        state: one.state.to_string(),
        terminal: one.terminal,
        started: rfc3339(one.started),
        age_ms: one.age_ms,
        cpu_ms: one.cpu_ms,
        rss_kib: one.rss_kib,
        command: one.command,
    };
    BoxProcesses { processes: found.processes.into_iter().map(process).collect(), more: found.more }
}

/// What was counted and timed.
pub(crate) fn metrics(found: &Metrics) -> boxwood_api::Metrics {
    let labels = |label: Option<(&str, &str)>| {
        label.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let counters = found.counters().map(|(series, value)| Metric {
        name: format!("{METRICS_PREFIX}_{}_total", series.family),
        labels: labels(series.label),
        help: series.help.to_owned(),
        value,
    });
    let gauges = found.boxes().iter().map(|(state, value)| Metric {
        name: format!("{METRICS_PREFIX}_boxes"),
        labels: labels(Some(("state", &state.to_string()))),
        help: "Boxes by their states".to_owned(),
        value: *value,
    });
    let histograms = found.timings().map(|(series, spread)| {
        let mut so_far = 0;
        let bounded = spread.buckets.iter().filter(|(bound, _)| **bound != u64::MAX);
        let buckets = bounded.map(|(bound, count)| {
            so_far += count;
            Bucket { le_seconds: seconds(*bound), count: so_far }
        });
        Histogram {
            name: format!("{METRICS_PREFIX}_{}_seconds", series.family),
            help: series.help.to_owned(),
            buckets: buckets.collect(),
            count: spread.count(),
            sum_seconds: seconds(spread.sum_us),
        }
    });
    boxwood_api::Metrics {
        gauges: gauges.collect(),
        counters: counters.collect(),
        histograms: histograms.collect(),
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}
