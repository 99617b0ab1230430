//! The framework of the tests that run the built `boxwood` with real VMs; `tests/vm` and the
//! benchmarks call it.
//!
//! A test opens a [`Lab`]: a home of its own, made from the kernel, templates and images of a store
//! that all tests share. It runs `boxwood` in it and says what it expects. When the lab is dropped,
//! everything that is left behind - a box, a process, a mount, a temporary file - fails the test by
//! name, and is removed, so that no test can disturb another.
//!
//! Nothing here sleeps: every wait is for an event (a process's end, a line of output, a change of
//! a file) and has a deadline.

// What it has to say belongs to a test's output.
#![allow(clippy::print_stderr)]

pub mod archive;
mod binary;
mod cgroup;
mod invocation;
mod lab;
mod leftovers;
mod output;
mod process;
mod rest;
mod running;
mod small;
mod store;
mod terminal;
mod tree;
mod watch;

pub use binary::{host_has, is_root, workspace};
pub use cgroup::Cgroup;
pub use invocation::Invocation;
pub use lab::{Lab, Live};
pub use output::Output;
pub use process::{Process, Watched};
pub use rest::{Answer, Daemon, Follower, Frame, Stream, Wire, Writer};
pub use running::Running;
pub use small::SmallHome;
pub use store::StoreKind;
pub use terminal::Terminal;
pub use tree::Tree;
pub use watch::Folder;

use std::time::Duration;

/// How long any one command may take. Generous: the machine may be busy, and a first use bakes.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How long what was told to end may take to be gone.
pub const GRACE: Duration = Duration::from_secs(5);

/// That many, and as many times more as `BOXWOOD_TEST_TIMES` says.
pub fn times(count: usize) -> usize {
    let more = std::env::var("BOXWOOD_TEST_TIMES").ok().and_then(|text| text.parse().ok());
    count * more.unwrap_or(1)
}
