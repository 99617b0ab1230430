//! How a process ended, and why one could not begin.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Signal;

/// How a process ended: a code or a signal, never both; or nobody knows (contract G2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal(Signal),
    /// It ended, or is taken to have ended, and its result was lost.
    Unknown,
}

impl ExitStatus {
    /// The code Docker and shells show: the code itself or 128 + the signal. An unknown result is
    /// shown as 255, which is a failure and not one of the codes Docker reserves.
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal.number(),
            Self::Unknown => 255,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "ended by {signal}"),
            Self::Unknown => f.write_str("unknown result"),
        }
    }
}

/// Why a command was not started: Docker's codes 126 and 127 (contract G7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StartRefusal {
    /// 127: there is no such command.
    NotFound,
    /// 126: it is there and can't be run, or its user or directory is not there.
    NotExecutable,
}

impl StartRefusal {
    /// 127 or 126.
    pub fn shell_code(self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_codes_are_dockers() {
        assert_eq!(ExitStatus::Code(7).shell_code(), 7);
        assert_eq!(ExitStatus::Signal(Signal::KILL).shell_code(), 137);
        assert_ne!(ExitStatus::Unknown.shell_code(), 0);
    }
}
