//! What is not in use goes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is to go.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneAll {
    /// Templates, too: they are made again when they are needed.
    #[serde(default)]
    pub templates: bool,
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
