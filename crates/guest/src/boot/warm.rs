//! The last thing before the freeze: makes the kernel do now what it does once, and leaves the
//! memory as empty as it goes, because all that is left becomes part of the template. Called by
//! `main`; and by `control`, in a VM that waits for a box, for what is done once in each VM.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Gid, Uid, WaitOptions, waitpid};
use rustix::thread::MembarrierCommand;

use crate::fault::{Fault, Step};
use crate::guest::Machine;
use crate::sys::{self, Nursery, Program};

/// Runs a throw-away child, and lets go of every page that can be had again.
pub(crate) fn warm_up() -> Result<(), Fault> {
    // Started as anything but PID 1 we end at once (see `main`).
    Command::new("/init").status().step("run a throw-away child")?;
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").step("drop the kernel's caches")?;
    // What was freed is given back after the kernel's readers are done: let that be before the
    // freeze, or every box does it anew.
    rustix::thread::membarrier(MembarrierCommand::Global).step("wait for the kernel's readers")
}

/// Starts a process as main is started, which ends at once, and waits for it. There is nothing in the box
/// yet that could keep it from ending.
pub(crate) fn rehearse(machine: &Machine, nursery: &mut Nursery) -> Result<(), Fault> {
    let step = "rehearse the start of a process";
    let root = File::open("/").step(step)?;
    let null = File::options().read(true).write(true).open("/dev/null").step(step)?;
    let mut cwd = *b"/\0";
    // Started as anything but PID 1 we end at once (see `main`).
    let argv = [c"/init".as_ptr(), std::ptr::null()];
    let mut program = Program {
        root: root.as_fd(),
        cgroup: machine.prepared.main_cgroup.as_fd(),
        stdio: [null.as_fd(); 3],
        controlling: None,
        cwd: &mut cwd,
        make_cwd: false,
        uid: Uid::ROOT,
        gid: Gid::ROOT,
        groups: &[],
        candidates: &[c"/init"],
        argv: &argv,
        envp: &argv[1..],
    };
    let pid = sys::spawn(&mut program, nursery).map_err(|_| Fault::new(step, Errno::CHILD))?;
    waitpid(Some(pid), WaitOptions::empty()).map(drop).step(step)
}
