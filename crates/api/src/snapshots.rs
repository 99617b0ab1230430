//! Snapshots and forks: boxes as they were at one moment, and boxes that go on from there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Created, Problem, strict};

/// What a box is captured into.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// The snapshot's name.
    #[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$", example = "web-warm")]
    pub name: String,
    /// The disk alone; then the box need not run.
    #[serde(default)]
    pub disk_only: bool,
}

/// Snapshots, the oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotList {
    /// The snapshots.
    pub snapshots: Vec<SnapshotInfo>,
    /// Why snapshots are left out, a line for each that can't be read.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A box as it was at one moment.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// What tells it from another one of the same name.
    pub id: String,
    /// When it was captured (RFC 3339, UTC).
    pub created: String,
    /// everything or disk.
    pub part: String,
    /// Bytes on the host's disk that go with it.
    pub own_bytes: u64,
    /// Bytes on the host's disk that others need, too.
    pub shared_bytes: u64,
    /// Bytes of its own that can be made again when they are needed.
    pub cache_bytes: u64,
    /// Where it is on the host.
    pub directory: String,
    /// The box that was captured, as it was.
    pub source: SnapshotSource,
    /// How long that stood still, in microseconds.
    pub pause_us: u64,
    /// How much memory was stored.
    pub memory_bytes: u64,
}

/// A box that was captured.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotSource {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What its creator called the image.
    pub image: String,
    /// Virtual CPUs and memory, such as `1cpu-512mib`.
    pub shape: String,
    /// What its user said about it, and what the image says.
    pub labels: BTreeMap<String, String>,
}

/// How a snapshot is imported.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportSnapshot {
    /// Another name than it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false, pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$")]
    pub name: Option<String>,
}

/// A snapshot that came as an archive.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportedSnapshot {
    /// Its name.
    pub name: String,
    /// Why only its disk is of use on this host, if so.
    pub foreign: Option<String>,
}

/// What a restored box has of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreSnapshot {
    /// The box's name; made up when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$", example = "web2")]
    pub name: Option<String>,
    /// Begin anew with its disk, also where its memory is of no use.
    #[serde(default)]
    pub disk_only: bool,
    /// Set for processes that are started later, or, without `=`, taken away: `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = strict::settings)]
    pub env: Vec<String>,
    /// What there is to say about it, besides what was said about the captured box. Names that begin with
    /// `boxwood.` are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = strict::labels)]
    pub labels: BTreeMap<String, String>,
    /// Whether it is removed when its command has ended.
    #[serde(default)]
    pub auto_remove: bool,
}

/// How many boxes are to go on from a running one, and what they have of their own.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkBox {
    /// How many: 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 1000)]
    pub number: Option<u16>,
    /// The name; of several boxes, what their names begin with: `NAME-1`, `NAME-2` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,122}$", example = "try")]
    pub name: Option<String>,
    /// Set for processes that are started later, or, without `=`, taken away: `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = strict::settings)]
    pub env: Vec<String>,
    /// What there is to say about them, besides what was said about the forked box. Names that begin with
    /// `boxwood.` are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = strict::labels)]
    pub labels: BTreeMap<String, String>,
    /// Whether each is removed when its command has ended.
    #[serde(default)]
    pub auto_remove: bool,
}

/// What became of a fork.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Forked {
    /// The boxes that run, in the order of their numbers.
    pub boxes: Vec<Created>,
    /// Why others do not, in the same order.
    pub failures: Vec<Problem>,
}
