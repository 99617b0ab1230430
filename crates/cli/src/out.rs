//! Standard output, for verbs that print results, and standard error, for what there is to say about
//! them. A reader of results that has gone ends the program the way a shell expects; a full disk is an
//! error like any other. What can't be said on standard error is not said: the exit code tells.

use std::fmt;
use std::io::{self, Write};

use anyhow::Context;

/// Prints a line.
pub(crate) fn line(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_fmt(text).and_then(|()| stdout.write_all(b"\n"));
    written.and_then(|()| stdout.flush()).context("can't write to standard output")
}

/// Prints bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.context("can't write to standard output")
}

/// Says a line on standard error, if that can be written to.
pub(crate) fn remark(text: fmt::Arguments<'_>) {
    // In one piece, so that lines of several processes do not mix.
    let _ = io::stderr().lock().write_all(format!("boxwood: {text}\n").as_bytes());
}

/// A character that moves nothing on a terminal.
pub(crate) fn printable(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

/// Whether an error is that standard output's reader has gone: not that of a daemon or a shim, which have
/// errors of their own around it.
pub(crate) fn is_hang_up(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// `println!` that returns an error instead of panicking.
macro_rules! say {
    ($($argument:tt)*) => { $crate::out::line(format_args!($($argument)*)) };
}
pub(crate) use say;

/// `eprintln!` that starts with our name and leaves the exit code alone where nobody can be told.
macro_rules! tell {
    ($($argument:tt)*) => { $crate::out::remark(format_args!($($argument)*)) };
}
pub(crate) use tell;
