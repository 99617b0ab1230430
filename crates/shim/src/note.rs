//! What the shim has to say beside the life of its box: its standard error, which is a file in the box's
//! directory. Used everywhere in the shim.

use std::fmt;
use std::io::{self, Write};

/// Writes a line there, if it can be written.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    // On a full disk the box runs on and is ended in order, just without this line.
    let _ = io::stderr().lock().write_all(format!("boxwood shim: {text}\n").as_bytes());
}

/// `eprintln!` that starts with our name and never panics.
macro_rules! note {
    ($($argument:tt)*) => { $crate::note::line(format_args!($($argument)*)) };
}
pub(crate) use note;
