//! Boxes as they are, and which of them are meant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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
    /// Also what each takes on the disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[param(required = false)]
    pub size: bool,
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
    /// What it takes on the disk, in a list that was asked for it.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
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
