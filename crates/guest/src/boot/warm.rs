//! The last thing before the freeze: makes the kernel do now what it does once, and leaves the
//! memory as empty as it goes, because all that is left becomes part of the template. Called by
//! `main`.

use std::fs;
use std::process::{Command, Stdio};

use rustix::thread::MembarrierCommand;

use crate::fault::{Fault, Step};

/// Runs a throw-away child, and lets go of every page that can be had again.
pub(crate) fn warm_up() -> Result<(), Fault> {
    // Started as anything but PID 1 we end at once (see `main`).
    Command::new("/init").stdout(Stdio::null()).status().step("run a throw-away child")?;
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").step("drop the kernel's caches")?;
    // What was freed is given back after the kernel's readers are done: let that be before the
    // freeze, or every box does it anew.
    rustix::thread::membarrier(MembarrierCommand::Global).step("wait for the kernel's readers")
}
