//! A new process of the box, from the clone to its program. Called by `session::spawn`.
//!
//! Like after `vfork`, the child works in our memory until it executes, and we stand still meanwhile: nothing
//! is copied. But it is a process of the box by then, and whoever is root there can stop it, with a signal, a
//! debugger or its cgroup's freezer. So we wait with a limit, kill a child that stands still, and wait for
//! that: what is killed never touches our memory again. Main's is cloned ahead, before the freeze (`ahead`).

mod ahead;
mod child;

use std::ffi::{CStr, c_char, c_long, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, RawPid, Signal, Uid, WaitOptions};
use rustix::thread::futex;
use rustix::time::Timespec;

use ahead::{Ahead, Word};
use child::child;

/// What a new process is, ready for a child that may not allocate.
pub(crate) struct Program<'a> {
    /// The root it gets.
    pub(crate) root: BorrowedFd<'a>,
    /// Its cgroup, entered by the very clone.
    pub(crate) cgroup: BorrowedFd<'a>,
    /// Standard input, output and error; none of them is below 3.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// The terminal that controls it.
    pub(crate) controlling: Option<BorrowedFd<'a>>,
    /// The working directory, absolute. Scratch for the child.
    pub(crate) cwd: &'a mut [u8],
    /// Whether that is made if it is missing.
    pub(crate) make_cwd: bool,
    /// Whose rights it has.
    pub(crate) uid: Uid,
    /// Its group.
    pub(crate) gid: Gid,
    /// Its supplementary groups.
    pub(crate) groups: &'a [Gid],
    /// The paths to try, in order.
    pub(crate) candidates: &'a [&'a CStr],
    /// Arguments and environment, each ended by a null pointer.
    pub(crate) argv: &'a [*const c_char],
    /// The same for the environment.
    pub(crate) envp: &'a [*const c_char],
}

/// What a child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildStep {
    /// Getting its session, root and standard streams.
    Setup,
    /// Entering its working directory.
    Directory,
    /// Taking its user's rights.
    User,
    /// Executing. With a candidate's index, if one was found and refused.
    Exec(Option<usize>),
}

/// Why a process was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpawnError {
    /// There is no child.
    Clone(Errno),
    /// There was one, and it failed.
    Child(ChildStep, Errno),
    /// There was one, and somebody killed it before it executed anything.
    Killed,
    /// There was one, and somebody stopped it before it executed anything: it was killed.
    Stopped,
}

/// `struct clone_args`, version 2 (Linux 5.7).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What parent and child share; the child works in the parent's memory until it executes.
struct Shared<'a, 'b> {
    program: &'b mut Program<'a>,
    /// How far the child is; it says so before it goes on.
    stage: AtomicU32,
    failure: Option<(ChildStep, Errno)>,
}

/// The child prepares itself.
const PREPARING: u32 = 0;
/// It executes its program, if the kernel can.
const EXECUTING: u32 = 1;
/// It has given up, and said why.
const FAILED: u32 = 2;

/// `clone3`'s flag (Linux 5.7); libc's constant of this name is cut to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

const CHILD_STACK: usize = 32 * 1024;

/// How long a child may be on its way before it is looked at, and how long in all: its program may have to
/// be read from a slow disk.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);
/// What the kernel needs at most to end what was killed.
const DEATH: Duration = Duration::from_secs(2);

/// A child's stack, and where the kernel says that it uses our memory no more: it writes 0 there.
#[repr(C, align(16))]
struct Cradle {
    stack: [u8; CHILD_STACK],
    tid: AtomicU32,
    /// What is said to a child that waits.
    word: Word,
}

impl Cradle {
    fn new() -> Box<Self> {
        Box::new(Cradle { stack: [0; CHILD_STACK], tid: AtomicU32::new(0), word: Word::new() })
    }
}

/// Where children are on their way to their programs, one after the other.
pub(crate) struct Nursery {
    cradle: Box<Cradle>,
    ahead: Option<Ahead>,
    /// Those that came to nothing and were not reaped yet.
    dead: Vec<Pid>,
}

impl Nursery {
    pub(crate) fn new() -> Self {
        Nursery { cradle: Cradle::new(), ahead: None, dead: Vec::new() }
    }

    /// Whether this child, which was reaped, never became a process of anybody's.
    pub(crate) fn forget(&mut self, pid: Pid) -> bool {
        if self.forget_ahead(pid) {
            return true;
        }
        let place = self.dead.iter().position(|dead| *dead == pid);
        place.map(|place| self.dead.swap_remove(place)).is_some()
    }
}

/// Starts a process, and returns once it executes its program or has failed to.
pub(crate) fn spawn(program: &mut Program<'_>, nursery: &mut Nursery) -> Result<Pid, SpawnError> {
    let cgroup = program.cgroup.as_raw_fd();
    let mut shared = Shared { program, stage: AtomicU32::new(PREPARING), failure: None };
    let shared_ptr: *mut Shared<'_, '_> = &mut shared;
    let pid = match nursery.take_ahead(cgroup) {
        Some(ahead) => {
            let (pid, cradle) = ahead.go(shared_ptr.cast());
            nursery.cradle = cradle;
            pid
        }
        None => clone_child(&mut nursery.cradle, cgroup, 0, child, shared_ptr.cast())
            .map_err(SpawnError::Clone)?,
    };
    let Nursery { cradle, dead, .. } = nursery;
    let released = released(&cradle.tid, pid);
    if released == Released::Never {
        // The kernel may yet write to it.
        std::mem::forget(std::mem::replace(cradle, Cradle::new()));
    }
    // SAFETY: the asm above may have changed `shared` through the pointer the child was given; the child
    // does not any more.
    let (stage, failure) =
        unsafe { ((*shared_ptr).stage.load(Ordering::Acquire), (*shared_ptr).failure) };
    let error = match (stage, failure, released) {
        (EXECUTING, _, Released::ByItself) => return Ok(pid),
        (FAILED, Some((step, errno)), _) => SpawnError::Child(step, errno),
        (_, _, Released::ByItself) => SpawnError::Killed,
        (_, _, Released::Killed | Released::Never) => SpawnError::Stopped,
    };
    // It is past its last instruction; if the kernel has not put it away yet, the reaper hears of it.
    if !matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_))) {
        dead.push(pid);
    }
    Err(error)
}

/// What a child does first.
type Entry = extern "C" fn(*mut c_void) -> !;

/// Clones a child into a cgroup, which begins with `entry` of `argument`.
fn clone_child(
    cradle: &mut Cradle,
    cgroup: RawFd,
    more_flags: libc::c_int,
    entry: Entry,
    argument: *mut c_void,
) -> Result<Pid, Errno> {
    let tid: *const AtomicU32 = &cradle.tid;
    let flags = libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID;
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP | (flags | more_flags) as u64,
        exit_signal: libc::SIGCHLD as u64,
        child_tid: tid as u64,
        parent_tid: tid as u64,
        stack: cradle.stack.as_mut_ptr() as u64,
        stack_size: CHILD_STACK as u64,
        cgroup: cgroup as u64,
        ..CloneArgs::default()
    };
    let result: c_long;
    // SAFETY: `args` outlives the call and describes `cradle`, whose stack is 16-aligned at both ends and
    // lent to us. The child starts on that stack, calls `entry` with `argument`, and never comes back. We
    // (single-threaded) stand still whenever it runs: in `released` until the kernel says that it uses our
    // memory no more, or was killed and returns to it no more; in `Ahead::new` until it waits. So it alone
    // uses that meanwhile. The word that the kernel writes is in the cradle, which is given up and
    // never freed when that may still come. The kernel preserves r12 and r13 for both.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const args,
            in("rsi") std::mem::size_of::<CloneArgs>(),
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match RawPid::try_from(result).ok().and_then(Pid::from_raw) {
        Some(pid) if result > 0 => Ok(pid),
        _ => Err(Errno::from_raw_os_error(-result as i32)),
    }
}

/// How a child came to use our memory no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Released {
    /// It has executed its program, or has ended.
    ByItself,
    /// It stood still and was killed.
    Killed,
    /// It was killed, and the kernel has not ended it yet.
    Never,
}

/// Waits until the kernel has cleared `tid`, but no longer than the box can be trusted.
fn released(tid: &AtomicU32, pid: Pid) -> Released {
    let began = Instant::now();
    while !cleared_within(tid, LOOK) {
        if began.elapsed() >= PATIENCE || stands_still(pid) {
            // Nothing keeps a process from dying of this: neither a stop nor a debugger nor a freezer.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            return match cleared_within(tid, DEATH) {
                true => Released::Killed,
                false => Released::Never,
            };
        }
    }
    Released::ByItself
}

/// Whether the kernel clears `tid` in time.
fn cleared_within(tid: &AtomicU32, within: Duration) -> bool {
    let end = Instant::now() + within;
    loop {
        let value = tid.load(Ordering::Acquire);
        if value == 0 {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        // Woken, interrupted, too late: the value tells. Not a private one: the kernel's is not.
        let _ = futex::wait(tid, futex::Flags::empty(), value, Some(&timeout));
    }
}

/// Whether a process that has only to execute its program neither runs nor waits for a disk: it is
/// stopped, traced or frozen. One that nothing is known of does.
fn stands_still(pid: Pid) -> bool {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    // Not by std: its error would be the child's, who shares our errno.
    let mut text = [0; 512];
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let read = rustix::fs::open(path, flags, Mode::empty())
        .and_then(|file| rustix::io::read(file, &mut text));
    let text = &text[..read.unwrap_or(0)];
    let name_ends = text.iter().rposition(|byte| *byte == b')');
    let state = name_ends.and_then(|end| text.get(end + 2));
    !matches!(state, Some(b'R' | b'D'))
}
