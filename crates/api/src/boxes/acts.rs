//! What a box can be told.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::health::HealthCheck;
use super::listed::Exit;
use crate::strict;

/// How a box is removed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteBox {
    /// Whether a box that runs is killed; else it is left as it is.
    #[serde(default)]
    #[param(required = false)]
    pub force: bool,
}

/// How a box is asked to end.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopBox {
    /// The first signal, instead of the box's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = strict::maybe_signal)]
    pub signal: Option<String>,
    /// Milliseconds until SIGKILL, instead of the box's own.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(maximum = 31_536_000_000_i64)]
    pub timeout_ms: Option<u64>,
}

/// What a box's command is sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KillBox {
    /// Which signal: SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = strict::maybe_signal)]
    pub signal: Option<String>,
}

/// What a box is to be called.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameBox {
    /// Its new name.
    #[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$", example = "web2")]
    pub name: String,
}

/// How long to wait for a box's end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitBox {
    /// Milliseconds until an answer comes that the box has not ended: for ever.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::strict::in_query"
    )]
    #[param(required = false, minimum = 0, maximum = 31_536_000_000_i64)]
    pub timeout_ms: Option<u64>,
}

/// What a wait came to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// How the box ended; nothing when time was up first.
    pub exit: Option<Exit>,
}

/// What a box is to be from now on. What is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateBox {
    /// Whether it is started again when it has ended by itself: no, on-failure, on-failure:N, always or
    /// unless-stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        pattern = "^(no|on-failure(:[1-9][0-9]{0,8})?|always|unless-stopped)$",
        example = "no"
    )]
    pub restart_policy: Option<String>,
    /// Whether its health is not checked any more.
    #[serde(default)]
    pub health_check_disabled: bool,
    /// What is to change in how its health is checked.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::object")]
    pub health_check_settings: Option<HealthCheck>,
    /// Milliseconds from the stop signal to SIGKILL.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(maximum = 31_536_000_000_i64)]
    pub stop_timeout_ms: Option<u64>,
}
