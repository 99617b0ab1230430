//! The states of a box as everybody outside its shim sees them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a box is in its life (contract H5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxState {
    /// It has a directory and a spec; no shim yet.
    Created,
    /// Its shim runs; main does not yet.
    Starting,
    /// Main runs.
    Running,
    /// The VM is stopped with everything in it.
    Paused,
    /// Main ended and the restart policy will start it again.
    Restarting,
    /// It was asked to end.
    Stopping,
    /// Main ran and ended, or was lost; the exit record says which.
    Exited,
    /// Main never ran; the record says why.
    Failed,
}

impl BoxState {
    /// Whether a shim must be alive in this state.
    pub fn is_live(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Running | Self::Paused | Self::Restarting | Self::Stopping
        )
    }
}

impl fmt::Display for BoxState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Failed => "failed",
        })
    }
}

/// Why a box is no longer running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// Main ended by itself or by a signal.
    Exited,
    /// Main could not be started: exit code 126 or 127 and the reason in the message.
    Refused,
    /// The start failed before main was tried.
    FailedToStart,
    /// The box's own kernel killed main for want of memory.
    OutOfMemory,
    /// QEMU ended while main was running.
    VmDied,
    /// The host's kernel killed QEMU for want of memory.
    HostOutOfMemory,
    /// Boxwood ended the VM before main's result was known (`kill`, or a stop that ran out of time).
    Killed,
    /// The shim ended without a record; nobody knows how main ended.
    Lost,
    /// The host was rebooted under the box.
    HostRebooted,
}

impl ExitReason {
    /// Whether memory ran out, in the box or on the host.
    pub fn is_out_of_memory(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::HostOutOfMemory)
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exited => "main exited",
            Self::Refused => "main could not be started",
            Self::FailedToStart => "the box failed to start",
            Self::OutOfMemory => "main was killed: the box ran out of memory",
            Self::VmDied => "the VM died",
            Self::HostOutOfMemory => "the VM was killed: the host ran out of memory",
            Self::Killed => "the VM was killed",
            Self::Lost => "the shim was lost",
            Self::HostRebooted => "the host was rebooted",
        })
    }
}
