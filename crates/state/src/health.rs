//! How a box's health is checked, and what came of it.

use boxwood_types::HealthStatus;
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::clock::Moment;

/// How the health of a box is checked (contract H9). Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// By what.
    pub probe: Probe,
    /// From the end of one probe to the beginning of the next.
    pub interval_ms: u64,
    /// What a probe may take.
    pub timeout_ms: u64,
    /// How long after main's start failures do not count, until a first success.
    pub start_period_ms: u64,
    /// Instead of the interval in that time.
    pub start_interval_ms: u64,
    /// Failures in a row until it is unhealthy.
    pub retries: u32,
}

/// What a health check does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Asks the guest for a sign of life.
    Liveness,
    /// Runs a command in the box: what ends with 0 is healthy.
    Command {
        /// Docker's `Test`: `CMD` and its arguments, or `CMD-SHELL` and a line for `/bin/sh -c`.
        test: Vec<Text>,
    },
}

impl Probe {
    /// The command and its arguments, if there is one.
    pub fn argv(&self) -> Option<Vec<Text>> {
        match self {
            Probe::Liveness => None,
            Probe::Command { test } => match test.split_first() {
                Some((kind, line)) if kind.0 == b"CMD-SHELL" => {
                    let shell = ["/bin/sh", "-c"].map(Text::from);
                    Some(shell.into_iter().chain(line.iter().cloned()).collect())
                }
                Some((_, argv)) => Some(argv.to_vec()),
                None => None,
            },
        }
    }

    /// As Docker's `Test` has it; the check that Docker does not have is `LIVENESS`.
    pub fn test(&self) -> Vec<String> {
        match self {
            Probe::Liveness => vec!["LIVENESS".to_owned()],
            Probe::Command { test } => test.iter().map(Text::display).collect(),
        }
    }
}

/// What came of a box's health checks since main started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How it fares.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last few results, the oldest first.
    pub log: Vec<ProbeResult>,
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began.
    pub start: Moment,
    /// When it ended.
    pub end: Moment,
    /// 0 when it succeeded; -1 when its time was up.
    pub exit_code: i32,
    /// What it wrote, or why it failed; bounded.
    pub output: String,
}
