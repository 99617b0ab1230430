//! The vocabulary of Boxwood: what a box is called, what it is made of, what became of it.
//!
//! Every other crate speaks these words. There is no I/O here and nothing asynchronous; a value of
//! one of these types has been checked, so nobody checks it again.

mod chain;
mod health;
mod id;
mod refs;
mod restart;
mod shape;
mod signal;
mod size;
mod state;
mod status;
mod terminal;

pub use chain::chain;
pub use health::HealthStatus;
pub use id::{BoxId, BoxName, IdError, NameError};
pub use refs::{Digest, DigestError, ImageName, ImageNameError};
pub use restart::{RestartPolicy, RestartPolicyError};
pub use shape::{Shape, ShapeError};
pub use signal::{Signal, SignalError};
pub use size::{ByteSize, SizeError};
pub use state::{BoxState, ExitReason};
pub use status::{ExitStatus, StartRefusal};
pub use terminal::WindowSize;
