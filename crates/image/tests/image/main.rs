//! The store from outside: archives in, block images out.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should say so at once")]

mod bad_input;
mod content;
mod import;
mod load;
mod merge;
mod store;
mod support;
