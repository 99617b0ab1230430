//! The pool: VMs that wait for boxes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::strict;

/// How many VMs of a shape are to wait.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPool {
    /// How many; 0 ends them.
    #[serde(deserialize_with = "strict::whole")]
    #[schema(maximum = 1000)]
    pub count: u32,
    /// Name or ID of the image that they are ready for, to begin with: busybox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[^\\x00]*$", example = "busybox")]
    pub image: Option<String>,
    /// Virtual CPUs: 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 64)]
    pub cpus: Option<u32>,
    /// Memory in bytes, rounded up to whole MiB: 512 MiB.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 67_108_864_i64, maximum = 1_099_511_627_776_i64)]
    pub memory_bytes: Option<u64>,
}

/// What is wanted of the pool, and what there is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// What is wanted, for each shape.
    pub shapes: Vec<PoolShape>,
    /// The VMs that wait, the oldest first.
    pub vms: Vec<PoolVm>,
    /// Why it could not be filled when that was last tried, for each shape of which it could not.
    #[serde(default)]
    pub failures: Vec<PoolFailure>,
}

/// How many VMs of a shape are wanted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolShape {
    /// Virtual CPUs and memory, such as `1cpu-512mib`.
    pub shape: String,
    /// How many.
    pub count: u32,
    /// The image they are ready for: the one that was asked for last.
    pub image: String,
}

/// A VM that waits.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolVm {
    /// Its ID.
    pub id: String,
    /// Virtual CPUs and memory, such as `1cpu-512mib`.
    pub shape: String,
    /// The image it is ready for.
    pub image: String,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// Whether it can be claimed; else it is starting.
    pub ready: bool,
}

/// Why the pool could not be filled with VMs of a shape.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolFailure {
    /// Virtual CPUs and memory, such as `1cpu-512mib`.
    pub shape: String,
    /// When (RFC 3339, UTC).
    pub time: String,
    /// In one line.
    pub message: String,
}
