//! Boxes: asked for, listed, told to do things.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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

/// Which boxes are listed. All that are said must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListBoxes {
    /// Also those that don't run.
    #[serde(default)]
    #[param(required = false)]
    pub all: bool,
    /// In one of these states; then also those that don't run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[param(required = false, example = json!(["running"]))]
    pub state: Vec<BoxState>,
    /// With this in their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false)]
    pub name: Option<String>,
    /// With all of these labels: `NAME`, or `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[param(required = false)]
    pub label: Vec<String>,
    /// Made of this image: the name it was given by, or the beginning of its ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false)]
    pub image: Option<String>,
}

/// Where a box is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BoxState {
    /// It was never started.
    Created,
    /// Its command does not run yet.
    Starting,
    /// Its command runs.
    Running,
    /// It stands still.
    Paused,
    /// Its command ended and will be started again.
    Restarting,
    /// It was asked to end.
    Stopping,
    /// Its command ran and ended.
    Exited,
    /// Its command never ran.
    Failed,
}

/// Boxes, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BoxList {
    /// The boxes.
    pub boxes: Vec<BoxInfo>,
    /// Why boxes are left out, a line for each that can't be read.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A box and what became of it so far.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BoxInfo {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What its creator called the image.
    pub image: String,
    /// The image's ID.
    pub image_id: String,
    /// The command and its arguments, the entrypoint's first.
    pub command: Vec<String>,
    /// created, starting, running, paused, restarting, stopping, exited or failed.
    pub state: String,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
    /// When its command last started.
    pub started: Option<String>,
    /// When it last ended.
    pub finished: Option<String>,
    /// How it last ended.
    pub exit: Option<Exit>,
    /// What its user says about it, and what the image says.
    pub labels: BTreeMap<String, String>,
    /// Its host name.
    pub hostname: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Whether standard input can be connected.
    pub open_stdin: bool,
    /// Whether its command has a terminal.
    pub terminal: bool,
    /// Whether it is removed when its command has ended.
    pub auto_remove: bool,
    /// Whether it is started again when it has ended by itself.
    pub restart_policy: String,
    /// How many times it was, since somebody last started it.
    pub restarts: u32,
    /// starting, healthy or unhealthy; nothing where it is not checked.
    pub health: Option<String>,
    /// The process id of its shim on the host, while it has one.
    pub shim_pid: Option<u32>,
    /// The process id of its VM on the host, while it has one.
    pub vm_pid: Option<u32>,
}

/// How a box ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// The code a shell would show: the command's own, 128 and a signal, or 125 to 127 when it never ran.
    pub code: u8,
    /// The signal that ended the command, if one did.
    pub signal: Option<u8>,
    /// Whether that is the command's own result; else nobody knows it, or there is none.
    pub known: bool,
    /// Why the box does not run any more: exited, refused, failed-to-start, vm-died, killed, lost,
    /// host-rebooted.
    pub reason: String,
    /// More, for people.
    pub message: Option<String>,
}

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false, minimum = 0, maximum = 31_536_000_000_i64)]
    pub timeout_ms: Option<u64>,
}

/// What a wait came to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// How the box ended; nothing when time was up first.
    pub exit: Option<Exit>,
}

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
