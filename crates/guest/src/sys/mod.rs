//! Every unsafe block of the guest: `clone3` for the box's processes (`spawn`), and the few calls rustix
//! has no safe form of. Called by `boot`, `clock`, `rebirth`, `reaper`, `leaving`, `hold`, `control`, `cgroup` and
//! `session::spawn`.
#![allow(unsafe_code)]

mod spawn;

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl;
use rustix::process::Pid;

pub(crate) use spawn::{ChildStep, Nursery, Program, SpawnError, spawn};

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

/// Sets the real-time clock forward by seconds, which may be negative, and microseconds in one step
/// (adjtimex(2), `ADJ_SETOFFSET`; `ADJ_NANO` would stay and change what others are told by it).
pub(crate) fn shift_clock(seconds: i64, microseconds: i64) -> Result<(), Errno> {
    // SAFETY: timex is plain numbers; zeros are a value of it.
    let mut change: libc::timex = unsafe { std::mem::zeroed() };
    change.modes = libc::ADJ_SETOFFSET;
    change.time = libc::timeval { tv_sec: seconds, tv_usec: microseconds };
    // SAFETY: adjtimex reads and writes one timex. It returns the state of the clock, or -1.
    if unsafe { libc::adjtimex(&mut change) } < 0 { Err(last_errno()) } else { Ok(()) }
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

/// Goes before the box's processes, however many there are, but lets one that runs finish its turn: else
/// who writes little at a time would be interrupted for each piece of it (SCHED_BATCH, sched(7)). What is
/// started gets no part of the priority, and [`take_turns`] gives it the policy.
pub(crate) fn go_first() -> Result<(), Errno> {
    const RESET_ON_FORK: libc::c_int = 0x4000_0000;
    schedule(libc::SCHED_BATCH | RESET_ON_FORK)?;
    // SAFETY: setpriority reads no memory.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Gives this process the policy that processes have.
fn take_turns() -> Result<(), Errno> {
    schedule(libc::SCHED_OTHER)
}

fn schedule(policy: libc::c_int) -> Result<(), Errno> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: it changes how this thread is scheduled, and reads `none`.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const none) } {
        0 => Ok(()),
        _ => Err(last_errno()),
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
