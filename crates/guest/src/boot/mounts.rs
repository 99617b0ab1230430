//! The mounts of PID 1 itself, and those every box will see, made ready to be moved into its root
//! file system after the restore. Called by `main`; `rootfs` moves what this prepared.
//!
//! ```text
//! /run/own     the topmost read-only layer of the box's root: mount points, /etc/hostname, …
//! /run/proc    becomes /proc                  /run/boot_id   covers /proc/sys/kernel/random/boot_id
//! /run/sys     becomes /sys, with cgroups     /run/dev       becomes /dev, with pts, shm, mqueue
//! /run/cgroup  stays PID 1's
//! ```
//!
//! Kinds, options and flags are those of Docker's containers (runc's `libcontainer/specconv`). As
//! there, a box without a terminal has no /dev/console: the VM's console is not the box's. Main's terminal
//! becomes it when there is one (`session::terminal`).

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Dev, FileType, Mode, OFlags, makedev};
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::cgroup::{Cgroups, open_procs};
use crate::fault::{Fault, Step};
use crate::rebirth::IdentityFiles;

/// What every box gets in its root, mounted and waiting.
pub(crate) struct Prepared {
    /// Becomes /proc.
    pub(crate) proc: OwnedFd,
    /// Becomes /sys.
    pub(crate) sys: OwnedFd,
    /// Becomes /dev.
    pub(crate) dev: OwnedFd,
    /// The cgroup of main and everything that descends from it.
    pub(crate) main_cgroup: OwnedFd,
    /// Its `cgroup.kill`.
    pub(crate) main_kill: OwnedFd,
    /// Its `cgroup.procs`, see [`open_procs`].
    pub(crate) _main_procs: OwnedFd,
    /// Where sessions get theirs.
    pub(crate) cgroups: Cgroups,
    /// The directory of the box's terminals.
    pub(crate) terminals: OwnedFd,
}

const NOSUID: MountFlags = MountFlags::NOSUID;
const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const NO_EXEC: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

/// Kind, mount point, flags, options; in this order.
const FIRST: [(&str, &str, MountFlags, &CStr); 4] = [
    ("proc", "/proc", STRICT, c""),
    ("sysfs", "/sys", STRICT, c""),
    ("devtmpfs", "/dev", NOSUID, c""),
    ("tmpfs", "/run", STRICT, c"mode=755"),
];

const BOX: [(&str, &str, MountFlags, &CStr); 8] = [
    ("proc", "/run/proc", STRICT, c""),
    ("sysfs", "/run/sys", STRICT, c""),
    // PID 1's own; a box only looks at them, as with Docker: a mere write takes no process out of its own.
    ("cgroup2", "/run/cgroup", STRICT, c"nsdelegate"),
    ("cgroup2", "/run/sys/fs/cgroup", STRICT.union(MountFlags::RDONLY), c"nsdelegate"),
    ("tmpfs", "/run/dev", NOSUID, c"mode=755,size=65536k"),
    ("devpts", "/run/dev/pts", NO_EXEC, c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("tmpfs", "/run/dev/shm", STRICT, c"mode=1777,size=65536k"),
    ("mqueue", "/run/dev/mqueue", STRICT, c""),
];

/// Device nodes of a box: name, major, minor. Everybody may use them.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/run/dev/fd"),
    ("/proc/self/fd/0", "/run/dev/stdin"),
    ("/proc/self/fd/1", "/run/dev/stdout"),
    ("/proc/self/fd/2", "/run/dev/stderr"),
    ("pts/ptmx", "/run/dev/ptmx"),
];

/// Mounts what PID 1 needs to look at the machine.
pub(crate) fn first() -> Result<(), Fault> {
    mount_all(&FIRST)
}

/// Mounts and fills everything of a box's root that does not depend on the box.
pub(crate) fn prepare() -> Result<(Prepared, IdentityFiles), Fault> {
    for folder in ["proc", "sys", "dev", "own", "own/proc", "own/sys", "own/dev", "own/etc"] {
        make_folder(&format!("/run/{folder}"))?;
    }
    mount_all(&BOX)?;
    for (name, major, minor) in NODES {
        make_node(name, makedev(major, minor))?;
    }
    for (target, link) in LINKS {
        make_link(target, link)?;
    }
    make_link("/proc/mounts", "/run/own/etc/mtab")?;
    File::create("/run/own/etc/resolv.conf").step("create /run/own/etc/resolv.conf")?;
    let files = IdentityFiles::create()?;
    mount_bind("/run/boot_id", "/run/proc/sys/kernel/random/boot_id")
        .step("bind a file over /proc/sys/kernel/random/boot_id")?;
    fs::create_dir("/run/cgroup/main").step("create the cgroup of main")?;
    let main_cgroup = open_folder("/run/cgroup/main")?;
    let prepared = Prepared {
        proc: open_folder("/run/proc")?,
        sys: open_folder("/run/sys")?,
        dev: open_folder("/run/dev")?,
        _main_procs: open_procs(main_cgroup.as_fd())?,
        main_cgroup,
        main_kill: rustix::fs::open(
            "/run/cgroup/main/cgroup.kill",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .step("open cgroup.kill of main")?,
        cgroups: Cgroups::new(open_folder("/run/cgroup")?)?,
        terminals: open_folder("/run/dev/pts")?,
    };
    Ok((prepared, files))
}

fn mount_all(table: &[(&str, &str, MountFlags, &CStr)]) -> Result<(), Fault> {
    for (kind, target, flags, options) in table {
        if !fs::exists(target).unwrap_or(false) {
            make_folder(target)?;
        }
        mount(*kind, *target, *kind, *flags, *options)
            .step_with(|| format!("mount {kind} at {target}"))?;
    }
    Ok(())
}

fn make_folder(path: &str) -> Result<(), Fault> {
    fs::create_dir(path).step_with(|| format!("create {path}"))
}

fn make_link(target: &str, link: &str) -> Result<(), Fault> {
    std::os::unix::fs::symlink(target, link).step_with(|| format!("create {link}"))
}

fn make_node(name: &str, device: Dev) -> Result<(), Fault> {
    let path = format!("/run/dev/{name}");
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, device)
        .and_then(|()| rustix::fs::chmod(&path, mode))
        .step_with(|| format!("create {path}"))
}

fn open_folder(path: &str) -> Result<OwnedFd, Fault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).step_with(|| format!("open {path}"))
}
