//! Every unsafe block of the guest: `clone3` for the box's processes, and the few calls rustix has
//! no safe form of. Called by `boot`, `rebirth`, `reaper`, `leaving`, `control`, `cgroup`
//! and `session::spawn`.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_long, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl;
use rustix::process::{Gid, Pid, RawPid, Uid};

/// `_IOW('R', 0x03, int[2])`: adds bytes to the kernel's pool and credits them (random(4)).
const RNDADDENTROPY: ioctl::Opcode = 0x4008_5203;
/// `_IO('R', 0x07)`: makes the generator take the pool's bytes now (random(4)).
const RNDRESEEDCRNG: ioctl::Opcode = 0x5207;
/// `_IOWR('X', 119, int)`: stops writes to a file system with everything on the disk.
const FIFREEZE: ioctl::Opcode = 0xc004_5877;
const FITHAW: ioctl::Opcode = 0xc004_5878;

/// Adds `bytes` to the kernel's entropy pool, credited in full.
pub(crate) fn add_entropy(random: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    /// `struct rand_pool_info` with the room a greeting may need.
    #[repr(C)]
    struct PoolInfo {
        entropy_count: i32,
        buf_size: i32,
        buf: [u8; 512],
    }
    let mut info = PoolInfo { entropy_count: 0, buf_size: 0, buf: [0; 512] };
    let taken = bytes.len().min(info.buf.len());
    info.buf[..taken].copy_from_slice(&bytes[..taken]);
    info.buf_size = taken as i32;
    info.entropy_count = info.buf_size * 8;
    // SAFETY: RNDADDENTROPY reads a rand_pool_info, which `PoolInfo` is, and `buf_size` is within it.
    unsafe { ioctl::ioctl(random, ioctl::Setter::<RNDADDENTROPY, PoolInfo>::new(info)) }
}

/// Makes the kernel's generator start anew from its pool.
pub(crate) fn reseed(random: impl AsFd) -> Result<(), Errno> {
    // SAFETY: RNDRESEEDCRNG takes no argument.
    unsafe { ioctl::ioctl(random, ioctl::NoArg::<RNDRESEEDCRNG>::new()) }
}

/// Writes everything a mounted file system holds to its disk and stops it, until [`thaw`].
pub(crate) fn freeze(mounted: impl AsFd) -> Result<(), Errno> {
    // SAFETY: FIFREEZE ignores its argument.
    unsafe { ioctl::ioctl(mounted, ioctl::NoArg::<FIFREEZE>::new()) }
}

/// Lets a file system go on that [`freeze`] has stopped.
pub(crate) fn thaw(mounted: impl AsFd) -> Result<(), Errno> {
    // SAFETY: FITHAW ignores its argument.
    unsafe { ioctl::ioctl(mounted, ioctl::NoArg::<FITHAW>::new()) }
}

/// Takes the loopback device up.
pub(crate) fn loopback_up(socket: impl AsFd) -> Result<(), Errno> {
    let mut request: libc::ifreq = zeroed_ifreq();
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, whose name is NUL-terminated by the zeros around it.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn zeroed_ifreq() -> libc::ifreq {
    // SAFETY: ifreq is plain numbers; zeros are a value of it.
    unsafe { std::mem::zeroed() }
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// Blocks SIGCHLD and returns a descriptor that becomes readable when one is pending.
pub(crate) fn child_signals() -> Result<OwnedFd, Errno> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the set that the next calls read; signalfd's result is checked
    // before it is owned.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
            return Err(last_errno());
        }
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_errno()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Gives SIGPIPE its default back, which std took: the box's processes inherit it. PID 1 itself is
/// spared default actions by the kernel and gets EPIPE.
pub(crate) fn default_sigpipe() {
    // SAFETY: SIG_DFL is a disposition for every signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Sends a signal to every process but this one.
pub(crate) fn kill_all(signal: i32) -> Result<(), Errno> {
    // SAFETY: kill reads no memory.
    let result = unsafe { libc::kill(-1, signal) };
    // No process left to kill is what was wanted.
    if result == 0 || last_errno() == Errno::SRCH { Ok(()) } else { Err(last_errno()) }
}

/// Sends a signal by number, real-time ones included.
pub(crate) fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill reads no memory.
    let result = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

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
    /// There was one; it has been reaped.
    Child(ChildStep, Errno),
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
    failure: Option<(ChildStep, Errno)>,
}

/// `clone3`'s flag (Linux 5.7); libc's constant of this name is cut to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

const CHILD_STACK: usize = 32 * 1024;

/// The child's stack, reused by every spawn.
#[repr(C, align(16))]
pub(crate) struct ChildStack([u8; CHILD_STACK]);

impl ChildStack {
    pub(crate) fn new() -> Box<Self> {
        Box::new(ChildStack([0; CHILD_STACK]))
    }
}

/// Starts a process, and returns once it executes its program or has failed to.
///
/// The child is not copied: like `vfork`, it borrows our memory while we stand still.
pub(crate) fn spawn(program: &mut Program<'_>, stack: &mut ChildStack) -> Result<Pid, SpawnError> {
    let args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64 | CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.0.as_mut_ptr() as u64,
        stack_size: CHILD_STACK as u64,
        cgroup: program.cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    let mut shared = Shared { program, failure: None };
    let shared_ptr: *mut Shared<'_, '_> = &mut shared;
    let result: c_long;
    // SAFETY: `args` outlives the call and describes `stack`, which is 16-aligned at both ends and
    // lent to us. The child starts on that stack, calls `child` with a pointer to `shared`, and never
    // comes back. CLONE_VFORK holds us (single-threaded) until the child has executed or ended, so
    // it alone uses our memory meanwhile. The kernel preserves r12 and r13 for both.
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
            in("r12") shared_ptr,
            in("r13") child as extern "C" fn(*mut c_void) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: the asm above may have changed `shared` through the pointer the child was given.
    let failure = unsafe { (*shared_ptr).failure };
    let pid = match RawPid::try_from(result).ok().and_then(Pid::from_raw) {
        Some(pid) if result > 0 => pid,
        _ => return Err(SpawnError::Clone(Errno::from_raw_os_error(-result as i32))),
    };
    match failure {
        None => Ok(pid),
        Some((step, errno)) => {
            // It is past its last instruction: this waits for the kernel's clean-up only.
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            Err(SpawnError::Child(step, errno))
        }
    }
}

/// The child's life before its program: no allocation, no panic, nothing that outlives it.
extern "C" fn child(shared: *mut c_void) -> ! {
    // SAFETY: `spawn` passes its `Shared` and stands still until we have executed or ended.
    let shared = unsafe { &mut *shared.cast::<Shared<'_, '_>>() };
    shared.failure = Some(become_program(shared.program));
    // SAFETY: ends this process only; no destructor of the parent's memory runs.
    unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    unreachable_child()
}

fn unreachable_child() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn become_program(program: &mut Program<'_>) -> (ChildStep, Errno) {
    if let Err(errno) = set_up(program) {
        return (ChildStep::Setup, errno);
    }
    if let Err(errno) = enter_directory(program.cwd, program.make_cwd) {
        return (ChildStep::Directory, errno);
    }
    if let Err(errno) = take_rights(program) {
        return (ChildStep::User, errno);
    }
    execute(program)
}

fn set_up(program: &Program<'_>) -> Result<(), Errno> {
    rustix::process::setsid()?;
    if let Some(terminal) = program.controlling {
        rustix::process::ioctl_tiocsctty(terminal)?;
    }
    unblock_signals()?;
    // Not by path: the new root covers ours, and a chroot into it is none to the kernel, so that
    // the box's processes may make user namespaces.
    rustix::process::fchdir(program.root)?;
    rustix::process::chroot(c".")?;
    rustix::stdio::dup2_stdin(program.stdio[0])?;
    rustix::stdio::dup2_stdout(program.stdio[1])?;
    rustix::stdio::dup2_stderr(program.stdio[2])?;
    // All of ours close on exec; this holds whatever a later change forgets.
    // SAFETY: close_range reads no memory, and marks descriptors instead of closing them.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if marked == 0 { Ok(()) } else { Err(last_errno()) }
}

const CLOSE_RANGE_CLOEXEC: u32 = 4;

fn unblock_signals() -> Result<(), Errno> {
    let none: u64 = 0;
    let old = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel's signal set is 8 bytes on x86-64, which `none` is.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, old, 8)
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Enters a directory, and makes it and its parents first if it is missing and to be made.
fn enter_directory(path: &mut [u8], make: bool) -> Result<(), Errno> {
    let entered = chdir(path);
    if entered != Err(Errno::NOENT) || !make {
        return entered;
    }
    for end in 1..path.len() {
        if path[end] == b'/' || path[end] == 0 {
            let byte = std::mem::replace(&mut path[end], 0);
            let made = mkdir(path);
            path[end] = byte;
            match made {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    chdir(path)
}

fn chdir(path: &[u8]) -> Result<(), Errno> {
    rustix::process::chdir(until_nul(path)?)
}

fn mkdir(path: &[u8]) -> Result<(), Errno> {
    rustix::fs::mkdir(until_nul(path)?, rustix::fs::Mode::from_raw_mode(0o755))
}

fn until_nul(path: &[u8]) -> Result<&CStr, Errno> {
    CStr::from_bytes_until_nul(path).map_err(|_| Errno::INVAL)
}

fn take_rights(program: &Program<'_>) -> Result<(), Errno> {
    rustix::thread::set_thread_groups(program.groups)?;
    rustix::thread::set_thread_gid(program.gid)?;
    rustix::thread::set_thread_uid(program.uid)
}

/// Tries the candidates as Docker's runtime does: one that is missing, a directory, or not
/// executable for this user is passed over; the first that is refused otherwise decides.
fn execute(program: &Program<'_>) -> (ChildStep, Errno) {
    let mut last = Errno::NOENT;
    let searched = program.candidates.len() > 1;
    for (index, path) in program.candidates.iter().enumerate() {
        // To look costs a fifth of trying to execute what is not there.
        if searched && rustix::fs::access(*path, rustix::fs::Access::EXISTS) == Err(Errno::NOENT) {
            continue;
        }
        // SAFETY: `argv` and `envp` are arrays of pointers to NUL-terminated texts, ended by null
        // (`session::spawn` builds both), and live until the program replaces this memory.
        unsafe { libc::execve(path.as_ptr(), program.argv.as_ptr(), program.envp.as_ptr()) };
        let errno = match last_errno() {
            Errno::ACCESS if is_directory(path) => Errno::ISDIR,
            errno => errno,
        };
        let passed_over = match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::ISDIR => true,
            Errno::ACCESS => rustix::fs::access(*path, rustix::fs::Access::EXEC_OK).is_err(),
            _ => false,
        };
        if !passed_over {
            return (ChildStep::Exec(Some(index)), errno);
        }
        last = errno;
    }
    (ChildStep::Exec(None), last)
}

fn is_directory(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
    })
}

/// Programs channel 0 of the 8254 as Linux's own `pit_shutdown` does: to count down once.
pub(crate) fn stop_interval_timer() -> Result<(), Errno> {
    const CHANNEL_0: u16 = 0x40;
    const MODE: u16 = 0x43;
    // Channel 0, low byte then high byte, mode 0: one shot.
    const ONE_SHOT: u8 = 0x30;
    let permit = |on: libc::c_int| {
        // SAFETY: it changes this thread's rights to four ports and nothing else.
        match unsafe { libc::ioperm(CHANNEL_0.into(), 4, on) } {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    };
    permit(1)?;
    for (port, value) in [(MODE, ONE_SHOT), (CHANNEL_0, 0), (CHANNEL_0, 0)] {
        // SAFETY: the ports are permitted above and are the timer's own; writing to them touches no
        // memory.
        unsafe {
            std::arch::asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack));
        }
    }
    permit(0)
}
