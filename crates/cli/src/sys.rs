//! Small things of the operating system.

/// The exit code of a process whose reader has gone: 128 + SIGPIPE, as a shell shows it.
pub(crate) const BROKEN_PIPE: u8 = 128 + 13;
