//! The values that frames carry: what the host asks of a guest and what the guest answers.
//!
//! These types are the wire's: plain, and not to be trusted. What the guest sends are claims.

use boxwood_types::{ExitStatus, Signal, StartRefusal};
use serde::{Deserialize, Serialize};

/// A process to start. Texts are bytes, as Linux has them, without NUL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The command and its arguments; the first is searched in the `PATH` of `env` when it has no
    /// slash.
    pub argv: Vec<Vec<u8>>,
    /// The environment, `NAME=value` each. `HOME` is added from the user's entry if it is not there.
    pub env: Vec<Vec<u8>>,
    /// The working directory, absolute; empty for `/`.
    pub cwd: Vec<u8>,
    /// `user`, `uid`, `user:group`, `uid:gid` and mixtures, looked up in the image; empty for root.
    pub user: Vec<u8>,
    /// Where standard input comes from.
    pub stdin: Stdin,
}

/// Where a process's standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// Frames of this stream, until the half-close.
    Stream,
}

/// What happens to the box's disk when main has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leaving {
    /// Flush it: the box may be started again.
    Flush,
    /// Leave it: the box is removed as soon as it has ended.
    Discard,
}

/// The request on [`MAIN_PORT`](crate::frame::MAIN_PORT): start main, once (contract G8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMain {
    /// What to start.
    pub process: Process,
    /// What becomes of the disk after it.
    pub leaving: Leaving,
}

/// Answers about a process, main's or a session's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessReply {
    /// Its exec succeeded.
    Started,
    /// It was not started.
    Refused {
        /// 126 or 127.
        refusal: StartRefusal,
        /// Why, for people.
        reason: String,
    },
    /// It could not even be tried: the guest is at fault, or the box's disk.
    Failed {
        /// The step that failed.
        step: String,
        /// Why.
        reason: String,
    },
    /// It ended. All its output has been sent before.
    Exited {
        /// How.
        status: ExitStatus,
    },
    /// Main was started before; nothing was done.
    Conflict,
}

/// Requests on [`CONTROL_PORT`](crate::frame::CONTROL_PORT).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Send a signal to main, or hold it until main exists (contract G8).
    Signal {
        /// Which.
        signal: Signal,
    },
    /// End main: `signal`, then KILL after `grace_ms` (contract G9).
    Stop {
        /// The first signal.
        signal: Signal,
        /// Milliseconds until KILL.
        grace_ms: u64,
    },
    /// Are you there?
    Ping {
        /// Repeated in the answer.
        nonce: u64,
    },
}

/// What the guest says on [`CONTROL_PORT`](crate::frame::CONTROL_PORT).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    /// It is there.
    Pong {
        /// As asked.
        nonce: u64,
        /// What it has counted.
        counters: Counters,
    },
    /// Main has ended, every other process is gone, and the disk is flushed unless it was to be
    /// discarded: the VM may end.
    Left {
        /// What went wrong while flushing, if something did.
        flush_error: Option<String>,
        /// What it has counted.
        counters: Counters,
    },
}

/// What a guest has counted since its restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Processes reaped that were neither main nor a session's own.
    pub orphans_reaped: u64,
    /// Sessions begun, main among them.
    pub sessions: u64,
}
