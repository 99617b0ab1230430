//! What is heard of boxes: streams, logs, events.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::strict;

/// How a client connects to a box's command.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttachBox {
    /// Whether it begins with everything that was written before, as far as the log is kept.
    #[serde(default)]
    #[param(required = false)]
    pub logs: bool,
}

/// What of a box's log is wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Logs {
    /// Go on with what is written from now on, until the box has ended.
    #[serde(default)]
    #[param(required = false)]
    pub follow: bool,
    /// Begin each line with its time.
    #[serde(default)]
    #[param(required = false)]
    pub timestamps: bool,
    /// Only the last so many lines of what there is.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::strict::in_query"
    )]
    #[param(required = false, minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub tail: Option<u64>,
    /// Leave out what was written before this time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false, format = DateTime)]
    pub since: Option<String>,
    /// Leave out what was written after this time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false, format = DateTime)]
    pub until: Option<String>,
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEvents {
    /// From then on, as far as they are kept (RFC 3339); without it from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false, format = DateTime)]
    pub since: Option<String>,
    /// Up to then (RFC 3339); without it for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false, format = DateTime)]
    pub until: Option<String>,
    /// `type=`, `event=`, `container=`, `image=` or `label=` and a value, as `boxwood events --filter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[param(schema_with = strict::filters)]
    pub filter: Vec<String>,
}
