//! Templates.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Templates.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TemplateList {
    /// The templates.
    pub templates: Vec<TemplateInfo>,
}

/// A booted, idle, frozen VM that boxes start from.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TemplateInfo {
    /// Its key.
    pub key: String,
    /// Bytes it takes on the host's disk.
    pub disk_bytes: u64,
    /// Whether its content was checked since the host booted.
    pub verified: bool,
    /// Virtual CPUs and memory, such as `1cpu-512mib`; nothing when it is damaged.
    pub shape: Option<String>,
    /// The image it has mounted; nothing when it is for all.
    pub image: Option<String>,
    /// kvm or tcg.
    pub accelerator: Option<String>,
    /// When it was made (RFC 3339, UTC).
    pub created: Option<String>,
    /// The QEMU it was made with.
    pub qemu_version: Option<String>,
    /// What is wrong with it, when it can't be used.
    pub damaged: Option<String>,
}
