//! The unsafe part of confinement: what runs between fork and exec, Landlock, and the seccomp
//! supervision of one system call. Called by `confine` and `ram`.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::QemuUser;

/// All that the child needs to know, made before it is: it must not allocate.
pub(super) struct Plan {
    pub(super) kept: Vec<RawFd>,
    pub(super) user: QemuUser,
    pub(super) parent: Pid,
    /// The device that may be opened for writing, and the group that may.
    pub(super) device: Option<Device>,
    pub(super) report: OwnedFd,
}

/// Starts the command with the plan carried out before exec.
pub(super) fn spawn(command: &mut Command, plan: Plan) -> io::Result<Child> {
    let prepare = move || {
        carry_out(&plan).map_err(|(step, error)| {
            // The parent learns the number of the step by this byte and the errno by std.
            let _ = rustix::io::write(&plan.report, &[step]);
            error
        })
    };
    // SAFETY: `carry_out` makes system calls and nothing else: no allocation, no lock, no panic.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// Ends a child that is of no use.
pub(super) fn kill_and_reap(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A device QEMU opens by itself.
pub(super) struct Device {
    pub(super) place: OwnedFd,
    pub(super) group: u32,
}

/// QEMU has no more than a few dozen open.
const DESCRIPTORS: u64 = 1024;

type Step = Result<(), (u8, io::Error)>;

fn step<T, E: Into<io::Error>>(number: u8, result: Result<T, E>) -> Result<T, (u8, io::Error)> {
    result.map_err(|error| (number, error.into()))
}

/// The steps of `confine::STEPS`, in their order.
fn carry_out(plan: &Plan) -> Step {
    step(0, rustix::process::setsid())?;
    // Without it it takes some megabytes more.
    let _ = have_small_pages();
    step(1, keep_only(&plan.kept))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    step(2, rustix::process::setrlimit(Resource::Core, none))?;
    if let QemuUser::Drop { uid, gid } = plan.user {
        // The raw calls, which change this thread only; the child has no other.
        step(3, set_groups(plan.device.as_ref()))?;
        let (uid, gid) = (i64::from(uid), i64::from(gid));
        step(4, call([libc::SYS_setresgid, gid, gid, gid, 0]))?;
        step(5, call([libc::SYS_setresuid, uid, uid, uid, 0]))?;
    }
    // A change of the user clears it, so after that.
    step(6, rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    if rustix::process::getppid() != Some(plan.parent) {
        return Err((7, io::Error::from_raw_os_error(libc::ESRCH)));
    }
    step(8, rustix::thread::set_no_new_privs(true))?;
    step(9, forbid_writing(plan.device.as_ref()))?;
    let listener = step(10, supervise_opening())?;
    step(11, send_descriptor(&plan.report, &listener))?;
    // What its parent has open is in its way until it executes, so after everything that opens something.
    step(12, limit_descriptors())
}

/// Closes all descriptors at exec but 0, 1, 2 and these.
fn keep_only(kept: &[RawFd]) -> io::Result<()> {
    let all = i64::from(u32::MAX);
    call([libc::SYS_close_range, 3, all, libc::CLOSE_RANGE_CLOEXEC.into(), 0])?;
    for descriptor in kept {
        call([libc::SYS_fcntl, (*descriptor).into(), libc::F_SETFD.into(), 0, 0])?;
    }
    Ok(())
}

/// Whatever number its parent needs, the program gets the soft limit that programs usually have.
fn limit_descriptors() -> rustix::io::Result<()> {
    let own = rustix::process::getrlimit(Resource::Nofile);
    let current = own.current.map_or(DESCRIPTORS, |current| current.min(DESCRIPTORS));
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..own })
}

/// From now on, also after exec, memory comes in pages of 4 KiB. QEMU asks for huge ones where it uses a part of
/// each: 3.6 MB of an idle VM's memory was that. Starts and emulated code take the same time with either.
fn have_small_pages() -> io::Result<()> {
    // SAFETY: this option takes numbers.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1_u64, 0_u64, 0_u64, 0_u64) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A system call whose arguments are numbers.
fn call([number, a, b, c, d]: [i64; 5]) -> io::Result<i64> {
    // SAFETY: only called with system calls that take no pointers (or null, for no groups).
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// No groups but the one that a device needs, unless that is root's.
fn set_groups(device: Option<&Device>) -> io::Result<()> {
    let group = device.map_or(0, |device| device.group);
    let count = usize::from(group != 0);
    // SAFETY: the kernel reads `count` groups, which is one at most.
    match unsafe { libc::syscall(libc::SYS_setgroups, count, &raw const group) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

// From linux/landlock.h.
const LANDLOCK_CREATE_RULESET_VERSION: usize = 1;
const LANDLOCK_RULE_PATH_BENEATH: usize = 1;
const NONE: usize = 0;
const WRITE_FILE: u64 = 1 << 1;
/// REMOVE_DIR, REMOVE_FILE and all MAKE_*.
const CHANGE_DIRECTORY: u64 = 0x1ff0;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;

#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: i32,
}

/// The version of the kernel's Landlock; below 1 if there is none.
pub(super) fn landlock_version() -> i64 {
    // SAFETY: with this flag the call takes no structure, and makes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            NONE,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    }
}

/// From now on nothing can be opened for writing but the device, and no directory be changed; what
/// is open stays as it is. Kernels without Landlock do without.
fn forbid_writing(device: Option<&Device>) -> io::Result<()> {
    let newer = match landlock_version() {
        i64::MIN..=0 => return Ok(()),
        1 => 0,
        2 => REFER,
        _ => REFER | TRUNCATE,
    };
    // SAFETY: the structures are those of linux/landlock.h, alive for the calls.
    unsafe {
        let ruleset = Ruleset { handled_access_fs: WRITE_FILE | CHANGE_DIRECTORY | newer };
        let size = size_of::<Ruleset>();
        let created =
            libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, NONE);
        if created < 0 {
            return Err(io::Error::last_os_error());
        }
        // Close-on-exec by the kernel.
        let rules = OwnedFd::from_raw_fd(created as RawFd);
        if let Some(device) = device {
            let parent = device.place.as_raw_fd();
            let allow = PathBeneath { allowed_access: WRITE_FILE, parent };
            let added = libc::syscall(
                libc::SYS_landlock_add_rule,
                rules.as_raw_fd(),
                LANDLOCK_RULE_PATH_BENEATH,
                &raw const allow,
                NONE,
            );
            if added < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), NONE) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Puts `openat` with exactly the flags `O_RDWR` under supervision. QEMU opens its RAM that way and
/// nothing else: all its other files are opened close-on-exec, or for reading, or by descriptor.
fn supervise_opening() -> io::Result<OwnedFd> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // In struct seccomp_data: nr, arch, and the low half of the third argument.
    const NUMBER_AT: u32 = 0;
    const ARCH_AT: u32 = 4;
    const FLAGS_AT: u32 = 32;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        line(LOAD, 0, 0, ARCH_AT),
        line(EQUAL, 0, 5, AUDIT_ARCH_X86_64),
        line(LOAD, 0, 0, NUMBER_AT),
        line(EQUAL, 0, 3, libc::SYS_openat as u32),
        line(LOAD, 0, 0, FLAGS_AT),
        line(EQUAL, 0, 1, libc::O_RDWR as u32),
        line(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its lines are alive for the call, which only reads them; what it
    // returns is a new descriptor (close-on-exec, by the kernel).
    unsafe {
        let listener = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        );
        if listener < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(listener as RawFd))
    }
}

fn send_descriptor(socket: &OwnedFd, descriptor: &OwnedFd) -> io::Result<()> {
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    sendmsg(socket, &[io::IoSlice::new(&[u8::MAX])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A supervised call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notified {
    id: u64,
}

/// Takes the call that waits. Only call it when the listener is readable: else it blocks.
pub(crate) fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<Notified> {
    // The kernel may know a longer structure than libc does; it must be zeroed.
    #[repr(C)]
    struct Room(libc::seccomp_notif, [u64; 32]);
    // SAFETY: the structure is plain numbers, for which all zeros is a value, and the kernel writes
    // no more than its own size of it, which `Room` has more than enough of.
    unsafe {
        let mut room: Room = std::mem::zeroed();
        let request = libc::SECCOMP_IOCTL_NOTIF_RECV;
        if libc::ioctl(listener.as_raw_fd(), request, &raw mut room) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Notified { id: room.0.id })
    }
}

/// Answers a call with a descriptor: the caller gets its own copy as if it had opened it.
pub(crate) fn give_descriptor(
    listener: BorrowedFd<'_>,
    notified: Notified,
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    let listener = listener.as_raw_fd();
    let mut added = libc::seccomp_notif_addfd {
        id: notified.id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: descriptor.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC as u32,
    };
    // SAFETY: both structures are those of linux/seccomp.h, alive for the calls.
    unsafe {
        let request = libc::SECCOMP_IOCTL_NOTIF_ADDFD;
        if libc::ioctl(listener, request, &raw const added) >= 0 {
            return Ok(());
        }
        // Before Linux 5.14 that flag is unknown, and it takes two calls.
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        added.flags = 0;
        let number = libc::ioctl(listener, request, &raw const added);
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let answer =
            libc::seccomp_notif_resp { id: notified.id, val: number.into(), error: 0, flags: 0 };
        let request = libc::SECCOMP_IOCTL_NOTIF_SEND;
        if libc::ioctl(listener, request, &raw const answer) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::mpsc;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// Returns when a call waits for its answer.
    fn wait(listener: &OwnedFd) {
        assert_eq!(poll(&mut [PollFd::new(listener, PollFlags::IN)], None), Ok(1));
    }

    #[test]
    fn an_opening_that_a_signal_interrupts_is_not_found_and_comes_again() {
        extern "C" fn nothing(_: libc::c_int) {}
        let (sender, listener) = mpsc::channel();
        let opener = std::thread::spawn(move || {
            // SAFETY: the action is a whole one whose handler does nothing; the path is a C string.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = nothing as *const () as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                sender.send(supervise_opening().unwrap()).unwrap();
                libc::openat(libc::AT_FDCWD, c"/proc/nothing".as_ptr(), libc::O_RDWR)
            }
        });
        let listener = listener.recv().unwrap();
        let file = File::open("/dev/null").unwrap();
        wait(&listener);
        let interrupted = receive_notification(listener.as_fd()).unwrap();
        // SAFETY: the thread has not been joined.
        unsafe { libc::pthread_kill(opener.as_pthread_t(), libc::SIGUSR1) };
        wait(&listener);
        let gone = give_descriptor(listener.as_fd(), interrupted, file.as_fd()).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        let again = receive_notification(listener.as_fd()).unwrap();
        give_descriptor(listener.as_fd(), again, file.as_fd()).unwrap();
        let number = opener.join().unwrap();
        assert!(number >= 0, "it was opened");
        // SAFETY: the number is that of the descriptor that was just given, and nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}
