//! What a box is to be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::health::HealthCheck;
use crate::strict;

/// A box as its user describes it. What is not said is the image's or the default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBox {
    /// Name or ID of the image.
    #[schema(pattern = "^[^\\x00]*$", example = "busybox")]
    pub image: String,
    /// The box's name; made up when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$", example = "web")]
    pub name: Option<String>,
    /// Instead of the image's command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = strict::texts)]
    pub command: Vec<String>,
    /// Instead of the image's entrypoint; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[^\\x00]*$")]
    pub entrypoint: Option<String>,
    /// Set, or, without `=`, taken away: `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = strict::settings)]
    pub env: Vec<String>,
    /// Instead of the image's working directory; absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^/[^\\x00]*$", example = "/srv")]
    pub workdir: Option<String>,
    /// Instead of the image's user: names or numbers, `user[:group]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[^\\x00]*$", example = "root")]
    pub user: Option<String>,
    /// The host name in the box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$", example = "web")]
    pub hostname: Option<String>,
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
    /// Whether standard input can be connected.
    #[serde(default)]
    pub open_stdin: bool,
    /// The size of the command's terminal, if it gets one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::object")]
    pub terminal: Option<TerminalSize>,
    /// Instead of the image's stop signal: a name or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = strict::maybe_signal)]
    pub stop_signal: Option<String>,
    /// Milliseconds from that signal to SIGKILL: 10 seconds.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(maximum = 31_536_000_000_i64)]
    pub stop_timeout_ms: Option<u64>,
    /// What there is to say about the box. Names that begin with `boxwood.` are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = strict::labels)]
    pub labels: BTreeMap<String, String>,
    /// Whether the box is removed when its command has ended.
    #[serde(default)]
    pub auto_remove: bool,
    /// Whether it is started again when it has ended by itself: no, on-failure, on-failure:N, always or
    /// unless-stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        pattern = "^(no|on-failure(:[1-9][0-9]{0,8})?|always|unless-stopped)$",
        example = "no"
    )]
    pub restart_policy: Option<String>,
    /// Whether its health is not checked. Else it is, from its start on.
    #[serde(default)]
    pub health_check_disabled: bool,
    /// How its health is checked, where that is not the default.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::object")]
    pub health_check_settings: Option<HealthCheck>,
    /// When a piece of its log is full, in bytes: 10 million.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1000, maximum = 1_000_000_000_000_i64)]
    pub log_max_size_bytes: Option<u64>,
    /// How many pieces of its log are kept: 5.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 1000)]
    pub log_max_files: Option<u32>,
    /// Whether the box is started, detached, and this is answered when its command runs.
    #[serde(default)]
    pub start: bool,
}

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Lines.
    #[serde(deserialize_with = "strict::whole")]
    #[schema(maximum = 65_535)]
    pub rows: u16,
    /// Characters in a line.
    #[serde(deserialize_with = "strict::whole")]
    #[schema(maximum = 65_535)]
    pub columns: u16,
}

/// A box that is there now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Created {
    /// Its ID: 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
}
