//! What is done once, before the template is frozen, so that a restore does as little as possible.
//! Called by `main`, in the order of its functions.

pub(crate) mod disks;
pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod port;
pub(crate) mod timer;
pub(crate) mod uevents;
pub(crate) mod warm;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};

use crate::fault::{Fault, Step};
use crate::sys;

/// Takes the loopback device up.
pub(crate) fn loopback() -> Result<(), Fault> {
    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .step("open a socket for the loopback device")?;
    sys::loopback_up(&socket).step("take the loopback device up")
}

/// Stops the interval timer, which nobody uses: the kernel has a better clock, and takes this one for
/// stopped. QEMU starts it at 18.2 Hz and wakes 55 times a second for it, in each idle box.
pub(crate) fn interval_timer() -> Result<(), Fault> {
    match sys::stop_interval_timer() {
        // A kernel that is locked down lets nobody at ports; its boxes idle less well.
        Ok(()) | Err(Errno::PERM | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno).step("stop the interval timer"),
    }
}

/// Lets boxes use all their memory. After it had to mix pages of different kinds, the kernel wants 2 MiB
/// more of each zone free, for the sake of huge pages (`Documentation/admin-guide/sysctl/vm.rst`,
/// `watermark_boost_factor`). A small box has less than that altogether: its processes are killed in
/// vain, and PID 1 finds no memory when nobody else is left.
///
/// And keeps the kernel from looking twice a second whether there is something to compact, for the same huge
/// pages (`compaction_proactiveness`): each idle box would wake for it.
pub(crate) fn memory() -> Result<(), Fault> {
    for name in ["watermark_boost_factor", "compaction_proactiveness"] {
        match fs::write(format!("/proc/sys/vm/{name}"), "0") {
            // Kernels before 5.0 and 5.9 do neither.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).step_with(|| format!("set vm.{name} to 0"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Goes before the box's processes. Not while it boots: then it would go before the kernel's own threads,
/// and what those are to free would still be taken.
pub(crate) fn priority() -> Result<(), Fault> {
    sys::go_first().step("go before other processes")
}

/// What the box's processes inherit from PID 1: limits as Docker 25 and later gives them (systemd's
/// defaults), a umask, and default signals.
pub(crate) fn inheritance() -> Result<(), Fault> {
    let files = Rlimit { current: Some(1024), maximum: Some(524_288) };
    rustix::process::setrlimit(Resource::Nofile, files).step("set the limit of open files")?;
    let processes = Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(Resource::Nproc, processes).step("lift the limit of processes")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::default_sigpipe();
    Ok(())
}
