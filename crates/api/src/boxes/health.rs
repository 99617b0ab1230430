//! How a box's health is checked.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::strict;

/// How a box's health is checked. What is not said is the image's or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// A line for the box's shell: what ends with 0 is healthy. Without it the box is asked whether it
    /// is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[^\\x00]+$", example = "true")]
    pub command: Option<String>,
    /// From the end of one check to the next.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 31_536_000_000_i64)]
    pub interval_ms: Option<u64>,
    /// What a check may take.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 31_536_000_000_i64)]
    pub timeout_ms: Option<u64>,
    /// How long after the start failures do not count.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 31_536_000_000_i64)]
    pub start_period_ms: Option<u64>,
    /// Instead of the interval in that time.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 31_536_000_000_i64)]
    pub start_interval_ms: Option<u64>,
    /// Failures in a row until it is unhealthy.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub retries: Option<u32>,
}
