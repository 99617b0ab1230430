//! Commands beside a box's own.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{TerminalSize, strict};

/// A command as its user describes it. What is not said is as the box has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateExec {
    /// The command and its arguments.
    #[schema(schema_with = strict::command)]
    pub command: Vec<String>,
    /// Set, or, without `=`, taken away: `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = strict::settings)]
    pub env: Vec<String>,
    /// The directory it starts in; absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^/[^\\x00]*$")]
    pub workdir: Option<String>,
    /// Names or numbers, `user[:group]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[^\\x00]*$")]
    pub user: Option<String>,
    /// Whether standard input is connected.
    #[serde(default)]
    pub open_stdin: bool,
    /// The size of its terminal, if it gets one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::object")]
    pub terminal: Option<TerminalSize>,
    /// When it is killed, with everything it started; milliseconds from its start.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::maybe_whole"
    )]
    #[schema(minimum = 1, maximum = 31_536_000_000_i64)]
    pub timeout_ms: Option<u64>,
    /// Whether it goes on without a client, its output dropped. Else it ends with its stream.
    #[serde(default)]
    pub detach: bool,
}

/// A command that can be started now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExecCreated {
    /// What to call it.
    pub id: String,
}

/// Where a command is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecState {
    /// It can be started.
    Created,
    /// It was asked for, and does not run yet.
    Starting,
    /// It runs.
    Running,
    /// It runs, and nobody will hear how it ends.
    Detached,
    /// It has ended, or was not started.
    Ended,
}

/// A command and what became of it. Known until the daemon ends, and the last ones only.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExecInfo {
    /// What it is called.
    pub id: String,
    /// The ID of its box.
    pub box_id: String,
    /// Where it is in its life.
    pub state: ExecState,
    /// How it ended.
    pub end: Option<ExecEnd>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecEnd {
    /// The code a shell would show; 124 when its time was up, 126 and 127 when it can't be executed or
    /// was not found, 137 when its box ended under it, 255 when nobody knows.
    pub code: u8,
    /// The signal that ended it, if one did.
    pub signal: Option<u8>,
    /// exited, timed_out, refused, failed, box_ended or client_gone.
    pub reason: String,
    /// More, for people.
    pub message: Option<String>,
}

/// What a command is sent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalExec {
    /// Which signal, to every process of it.
    #[schema(schema_with = strict::signal)]
    pub signal: String,
}
