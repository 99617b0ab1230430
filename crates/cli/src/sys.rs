//! Small things of the operating system.

/// The exit code of a process whose reader has gone: 128 + SIGPIPE, as a shell shows it.
pub(crate) const BROKEN_PIPE: u8 = 128 + 13;

/// The error of a process that has as many open files as it may (errno(3)).
pub(crate) const EMFILE: i32 = 24;
