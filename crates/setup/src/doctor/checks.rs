//! The checks of the host itself: each looks, judges by a pure function where there is a number to judge, and
//! says what to do. Called by `doctor`.

use std::fs;
use std::path::Path;

use boxwood_types::{ByteSize, chain};
use rustix::fs::{Access, access, statvfs};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};

use crate::command::find_program;
use crate::disk::BlankDisk;
use crate::distro::{Distro, Need};
use crate::error::Error;
use crate::guest_binary::GuestBinary;
use crate::kernel::{self, Kernel};
use crate::sources::KernelSource;

use super::{Check, Patient};

/// A box's disk and log grow; with less than this left the first box fills the host.
const SPACE_NEEDED: u64 = 1 << 30;
/// A dozen images of common size.
const SPACE_WISHED: u64 = 8 << 30;
/// A shim and its QEMU hold about fifty each.
const FILES_NEEDED: u64 = 256;
/// What a daemon with hundreds of boxes needs; the usual default.
const FILES_WISHED: u64 = 1024;
/// A box is a shim and a QEMU with about eight threads.
const PROCESSES_NEEDED: u64 = 64;
const PROCESSES_WISHED: u64 = 1024;

/// All of them, in the order they are shown.
pub(super) fn all(patient: &Patient<'_>) -> Vec<Check> {
    let distro = Distro::current();
    vec![
        kernel(patient, distro),
        guest(patient),
        disk(patient, distro),
        busybox(distro),
        home(patient.home),
        space(patient.home),
        open_files(getrlimit(Resource::Nofile).current),
        processes(getrlimit(Resource::Nproc).current),
        sandbox(&fs::read_to_string(SECCOMP_ACTIONS).unwrap_or_default()),
        user(geteuid().is_root()),
    ]
}

fn kernel(patient: &Patient<'_>, distro: Distro) -> Check {
    const NAME: &str = "kernel";
    match Kernel::find(patient.stores, &patient.sources.kernel) {
        Ok(Some(kernel)) => {
            let modules = kernel.modules().count();
            let (release, origin) = (kernel.release(), kernel.origin());
            return Check::ok(NAME, format!("{release}, {modules} modules ({origin})"));
        }
        Ok(None) => {}
        Err(error) => return Check::fail(NAME, chain(&error), "run 'boxwood setup'"),
    }
    let available = match &patient.sources.kernel {
        KernelSource::Distribution => kernel::available(),
        KernelSource::Files { image, .. } => fs::File::open(image)
            .map(|_| image.display().to_string())
            .map_err(|source| Error::Read { path: image.clone(), source }),
    };
    match available {
        Ok(name) => Check::warn(
            NAME,
            format!("not set up yet: {name} will be at first use"),
            "run 'boxwood setup' to do it now",
        ),
        Err(error @ Error::Read { .. }) => {
            Check::fail(NAME, chain(&error), "set BOXWOOD_KERNEL to a kernel that is there")
        }
        Err(error) => {
            let package = distro.package(Need::Kernel);
            let update = match distro {
                Distro::Debian | Distro::Ubuntu => "run 'apt-get update'".to_owned(),
                _ => format!("install the package {package}"),
            };
            let remedy = format!("{update}, or set BOXWOOD_KERNEL and BOXWOOD_MODULES");
            Check::fail(NAME, first_clause(&error), remedy)
        }
    }
}

fn guest(patient: &Patient<'_>) -> Check {
    const NAME: &str = "guest binary";
    match GuestBinary::find(patient.sources.guest.as_deref()) {
        Ok(guest) => Check::ok(NAME, guest.path.display().to_string()),
        Err(error) => {
            let remedy = format!("{}, or set BOXWOOD_GUEST", crate::error::BUILD_THE_GUEST);
            Check::fail(NAME, first_clause(&error), remedy)
        }
    }
}

fn disk(patient: &Patient<'_>, distro: Distro) -> Check {
    const NAME: &str = "empty disk";
    match BlankDisk::find(patient.stores) {
        Ok(disk) => Check::ok(
            NAME,
            format!(
                "{} of data in {}",
                ByteSize::from_bytes(disk.data_bytes()),
                disk.path().display()
            ),
        ),
        Err(Error::NoDisk { .. }) => {
            match ["mke2fs", "debugfs"].iter().find(|tool| find_program(tool).is_none()) {
                Some(tool) => {
                    let package = distro.package_of(tool);
                    Check::fail(NAME, format!("'{tool}' is not installed"), install(package))
                }
                None => Check::warn(
                    NAME,
                    "not made yet: it will be at first use",
                    "run 'boxwood setup' to do it now",
                ),
            }
        }
        Err(error) => Check::fail(NAME, chain(&error), "remove the file and run 'boxwood setup'"),
    }
}

fn busybox(distro: Distro) -> Check {
    const NAME: &str = "busybox";
    match find_program("busybox") {
        Some(path) => Check::ok(NAME, path.display().to_string()),
        None => Check::warn(
            NAME,
            "not installed: only the tests and the examples use it",
            install(distro.package(Need::Busybox)),
        ),
    }
}

fn home(home: &Path) -> Check {
    const NAME: &str = "home";
    let place = existing(home);
    let shown = home.display();
    let allowed = match place.is_dir() {
        true => access(place, Access::WRITE_OK | Access::EXEC_OK),
        false => Err(Errno::NOTDIR),
    };
    match allowed {
        Ok(()) if place == home => Check::ok(NAME, format!("{shown} is writable")),
        Ok(()) => Check::ok(NAME, format!("{shown} can be made")),
        Err(error) => Check::fail(
            NAME,
            format!("{} is not writable: {}", place.display(), std::io::Error::from(error)),
            "choose another home with BOXWOOD_HOME, or make it writable for this user",
        ),
    }
}

fn space(home: &Path) -> Check {
    match statvfs(existing(home)) {
        Ok(found) => judge_space(home, found.f_bavail.saturating_mul(found.f_frsize)),
        Err(error) => Check::warn(
            "free space",
            format!("unknown: {}", std::io::Error::from(error)),
            format!("see to it that {} has {SPACE_NEEDED} bytes free", home.display()),
        ),
    }
}

fn judge_space(home: &Path, free: u64) -> Check {
    const NAME: &str = "free space";
    let detail = format!("{} free for {}", ByteSize::from_bytes(free), home.display());
    let remedy = "free some space ('boxwood rm', 'boxwood rmi', 'boxwood template rm'), \
                  or choose another home with BOXWOOD_HOME";
    match free {
        0..SPACE_NEEDED => Check::fail(NAME, detail, remedy),
        SPACE_NEEDED..SPACE_WISHED => Check::warn(NAME, detail, remedy),
        _ => Check::ok(NAME, detail),
    }
}

/// `None` is no limit.
fn open_files(limit: Option<u64>) -> Check {
    let remedy = format!("raise it: ulimit -n {FILES_WISHED}, or LimitNOFILE in a systemd unit");
    judge_limit("open files", limit, FILES_NEEDED..FILES_WISHED, remedy)
}

fn processes(limit: Option<u64>) -> Check {
    let remedy = format!("raise it: ulimit -u {PROCESSES_WISHED}, or LimitNPROC in a systemd unit");
    judge_limit("processes", limit, PROCESSES_NEEDED..PROCESSES_WISHED, remedy)
}

fn judge_limit(
    name: &str,
    limit: Option<u64>,
    poor: std::ops::Range<u64>,
    remedy: String,
) -> Check {
    match limit {
        None => Check::ok(name, "no limit"),
        Some(limit) if limit < poor.start => {
            Check::fail(name, format!("at most {limit}, a box needs {}", poor.start), remedy)
        }
        Some(limit) if limit < poor.end => {
            Check::warn(name, format!("at most {limit}: enough for a few boxes"), remedy)
        }
        Some(limit) => Check::ok(name, format!("at most {limit}")),
    }
}

/// What a filter may do, by name: proc_sys_kernel(5), since Linux 4.14.
const SECCOMP_ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

fn sandbox(actions: &str) -> Check {
    const NAME: &str = "sandbox";
    let has = |action: &str| actions.split_whitespace().any(|word| word == action);
    if !has("kill_process") {
        Check::fail(
            NAME,
            "the host's kernel has no seccomp filters",
            "boot a kernel with CONFIG_SECCOMP_FILTER (every distribution's has it)",
        )
    } else if !has("user_notif") {
        Check::warn(
            NAME,
            "seccomp, without user notification",
            "boot Linux 5.9 or newer, so that QEMU older than 8.2 can't write templates",
        )
    } else {
        Check::ok(NAME, "seccomp")
    }
}

/// By effective user id: only root can give each box its own.
fn user(root: bool) -> Check {
    if root {
        Check::ok("user", "root: each box gets a user id of its own")
    } else {
        Check::ok("user", "not root: all boxes run as this user (as root, each gets its own id)")
    }
}

fn install(package: &str) -> String {
    format!("install the package {package}")
}

/// The path itself, or the nearest directory above it that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(if path.is_absolute() {
        Path::new("/")
    } else {
        Path::new(".")
    })
}

/// What is wrong, without what to do: that is the remedy's.
fn first_clause(error: &Error) -> String {
    let text = chain(error);
    text.split(": ").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn too_little_space_fails_and_little_warns() {
        let home = Path::new("/home");
        for (free, status) in [
            (0, Status::Fail),
            (SPACE_NEEDED - 1, Status::Fail),
            (SPACE_NEEDED, Status::Warn),
            (SPACE_WISHED, Status::Ok),
        ] {
            let check = judge_space(home, free);
            assert_eq!(check.status, status, "{free}");
            // What is advised has to be there.
            let remedy = check.remedy.unwrap_or_default();
            let verbs: Vec<&str> = remedy.split('\'').skip(1).step_by(2).collect();
            let all: &[&str] = &["boxwood rm", "boxwood rmi", "boxwood template rm"];
            assert_eq!(verbs, if status == Status::Ok { &[] } else { all });
        }
    }

    #[test]
    fn low_limits_fail_or_warn_and_say_how_to_raise_them() {
        for (limit, status) in [
            (Some(10), Status::Fail),
            (Some(300), Status::Warn),
            (Some(20_000), Status::Ok),
            (None, Status::Ok),
        ] {
            let check = open_files(limit);
            assert_eq!(check.status, status, "{limit:?}");
            assert_eq!(check.remedy.is_some(), status != Status::Ok);
        }
        assert_eq!(processes(Some(1)).status, Status::Fail);
    }

    #[test]
    fn a_kernel_without_seccomp_fails() {
        for (actions, status) in [
            ("", Status::Fail),
            ("kill_process kill_thread trap errno log allow", Status::Warn),
            ("kill_process kill_thread trap errno user_notif trace log allow", Status::Ok),
        ] {
            assert_eq!(sandbox(actions).status, status, "{actions}");
        }
    }

    #[test]
    fn a_home_that_is_not_there_is_judged_by_the_directory_above() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(home(&directory.path().join("a/b")).status, Status::Ok);
        fs::write(directory.path().join("file"), "").unwrap();
        assert_eq!(home(&directory.path().join("file")).status, Status::Fail);
        assert_eq!(home(Path::new("boxwood-not-there")).status, Status::Ok);
    }
}
