//! What boxes take of the host, and the processes in them.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Whether stats go on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatsOf {
    /// Go on, with a line each second, until the box has ended.
    #[serde(default)]
    #[param(required = false)]
    pub stream: bool,
}

/// What a box takes of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BoxStats {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When this was so (RFC 3339, UTC).
    pub time: String,
    /// The most memory its VM can have.
    pub memory_limit_bytes: u64,
    /// What its VM has taken so far; nothing for a box that has none.
    pub usage: Option<Usage>,
    /// How many processes run in it, as its guest says; nothing where that says nothing.
    pub processes: Option<u64>,
}

/// What a VM has taken of the host since it was started, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Processor time.
    pub cpu_ns: u64,
    /// Memory: its share of what it has in common with other VMs.
    pub memory_bytes: u64,
    /// Read from disks.
    pub read_bytes: u64,
    /// Written to disks.
    pub written_bytes: u64,
}

/// The processes in a box, as its guest shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoxProcesses {
    /// By their ids.
    pub processes: Vec<BoxProcess>,
    /// How many more there are.
    pub more: u32,
}

/// A process in a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoxProcess {
    /// Its id in the box.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its user's name in the image, or number.
    pub user: String,
    /// Its state as ps(1) shows it: a letter, such as `R` or `S`.
    pub state: String,
    /// Its terminal, as `pts/0`.
    pub terminal: Option<String>,
    /// When it started (RFC 3339, UTC).
    pub started: String,
    /// Milliseconds since.
    pub age_ms: u64,
    /// Milliseconds of processor time it took.
    pub cpu_ms: u64,
    /// Memory it has in use, in KiB.
    pub rss_kib: u64,
    /// Its command line, or its name in brackets.
    pub command: String,
}
