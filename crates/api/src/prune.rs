//! What is not in use goes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is to go.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneAll {
    /// Templates, too: they are made again when they are needed.
    #[serde(default)]
    pub templates: bool,
    /// Of the boxes only those that were created before this (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Of the boxes only those with all of these labels: `NAME`, or `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label: Vec<String>,
}

/// What has gone.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// Boxes, by their IDs.
    pub boxes: Vec<String>,
    /// Templates, by their keys.
    pub templates: Vec<String>,
    /// Memories of snapshots, by the names of those: they are made whole again when they are restored.
    #[serde(default)]
    pub memories: Vec<String>,
    /// What they took on the disk.
    pub freed_bytes: u64,
    /// Why something stayed, a line for each.
    #[serde(default)]
    pub warnings: Vec<String>,
}
