//! The daemon itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether the daemon serves.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or `stopping`.
    pub status: String,
}

/// What answers here.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Boxwood's version.
    pub version: String,
    /// The API's version, which is in the paths.
    pub api: String,
    /// The operating system.
    pub os: String,
    /// The architecture, as Go names it.
    pub arch: String,
}
