//! The last thing before the freeze: makes the kernel do now what it does once, and leaves the
//! memory as empty as it goes, because all that is left becomes part of the template. Called by
//! `main`, and by `start` for a template with an image.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::thread::MembarrierCommand;

use crate::clock;
use crate::fault::{Fault, Step};

/// Runs a throw-away child, and lets go of every page that can be had again.
pub(crate) fn warm_up() -> Result<(), Fault> {
    throw_away()?.wait().step("wait for a throw-away child")?;
    // rustix looks for the kernel's clock when it is first asked for the time.
    clock::read();
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").step("drop the kernel's caches")?;
    readers_done()
}

/// Waits for the kernel's readers: what was freed is given back after they are done. Let that be before the
/// freeze, or every box does it anew. Twice, because what is given back after the first may be what has others
/// given back.
fn readers_done() -> Result<(), Fault> {
    for _ in 0..2 {
        rustix::thread::membarrier(MembarrierCommand::Global)
            .step("wait for the kernel's readers")?;
    }
    Ok(())
}

/// Leaves the kernel two stacks for its next processes (`NR_CACHED_STACKS`, kernel/fork.c), which it keeps of
/// processes that have ended; what mounts has taken those there were.
pub(crate) fn warm_stacks() -> Result<(), Fault> {
    let children = [throw_away()?, throw_away()?];
    for mut child in children {
        child.wait().step("wait for a throw-away child")?;
    }
    readers_done()
}

/// A child that ends at once: started as anything but PID 1 we do (see `main`).
fn throw_away() -> Result<Child, Fault> {
    Command::new("/init").stdout(Stdio::null()).spawn().step("run a throw-away child")
}
