//! The REST service: boxes over HTTP, on a Unix socket or TCP. `boxwood serve` calls it.
//!
//! It is one more user of the runtime and owns nothing: boxes are their shims', the truth is on the
//! disk, and any number of daemons and commands share a home. Only a box or command that was started
//! with a client's connection ends with it, and so with the daemon.
//!
//! [`serve`] reads as the daemon's life, top to bottom. It works with one thread; what blocks is done on
//! threads that go when they are idle, so an idle daemon does nothing at all.

mod app;
mod auth;
mod connection;
mod convert;
mod download;
mod error;
mod execs;
mod extract;
mod follow;
mod keys;
mod listen;
mod openapi;
mod options;
mod queries;
mod room;
mod routes;
mod serve;
mod stream;
mod sys;
mod upload;

pub use openapi::openapi;
pub use options::{Options, OptionsError};
pub use serve::{ServeError, serve};
