//! The child's side of a [spawn](super): from the clone to its program, in the parent's memory. It allocates
//! nothing, panics nowhere, and leaves nothing behind.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::{ChildStep, EXECUTING, FAILED, Program, Shared};
use crate::sys::{last_errno, take_turns};

/// The child's whole life before its program.
pub(super) extern "C" fn child(shared: *mut c_void) -> ! {
    // SAFETY: `spawn` passes its `Shared` and stands still until we have executed or ended.
    let shared = unsafe { &mut *shared.cast::<Shared<'_, '_>>() };
    if let Err(errno) = leave_parent() {
        give_up(shared, (ChildStep::Setup, errno));
    }
    go_on(shared)
}

/// The life of a child that has left its parent already.
pub(super) fn go_on(shared: &mut Shared<'_, '_>) -> ! {
    let failure = become_program(shared.program, &shared.stage);
    give_up(shared, failure)
}

fn give_up(shared: &mut Shared<'_, '_>, failure: (ChildStep, Errno)) -> ! {
    shared.failure = Some(failure);
    shared.stage.store(FAILED, Ordering::Release);
    end()
}

/// Ends this process only: no destructor of the parent's memory runs.
pub(super) fn end() -> ! {
    // SAFETY: the kernel does not return from it.
    unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    unreachable_child()
}

/// Gets a session, signals and turns of its own: what is the same for every program.
pub(super) fn leave_parent() -> Result<(), Errno> {
    rustix::process::setsid()?;
    unblock_signals()?;
    take_turns()
}

fn unreachable_child() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn become_program(program: &mut Program<'_>, stage: &AtomicU32) -> (ChildStep, Errno) {
    if let Err(errno) = set_up(program) {
        return (ChildStep::Setup, errno);
    }
    if let Err(errno) = enter_directory(program.cwd, program.make_cwd) {
        return (ChildStep::Directory, errno);
    }
    if let Err(errno) = take_rights(program) {
        return (ChildStep::User, errno);
    }
    stage.store(EXECUTING, Ordering::Release);
    execute(program)
}

fn set_up(program: &Program<'_>) -> Result<(), Errno> {
    // All of ours close on exec; this holds whatever a later change forgets. And from here on they are its own.
    let flags = CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC;
    // SAFETY: close_range reads no memory, and marks descriptors instead of closing them.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, flags) };
    if marked != 0 {
        return Err(last_errno());
    }
    if let Some(terminal) = program.controlling {
        rustix::process::ioctl_tiocsctty(terminal)?;
    }
    // Not by path: the new root covers ours, and a chroot into it is none to the kernel, so that
    // the box's processes may make user namespaces.
    rustix::process::fchdir(program.root)?;
    rustix::process::chroot(c".")?;
    rustix::stdio::dup2_stdin(program.stdio[0])?;
    rustix::stdio::dup2_stdout(program.stdio[1])?;
    rustix::stdio::dup2_stderr(program.stdio[2])
}

const CLOSE_RANGE_UNSHARE: u32 = 2;
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
    // The child is root in root's group already.
    if !program.gid.is_root() {
        rustix::thread::set_thread_gid(program.gid)?;
    }
    if program.uid.is_root() { Ok(()) } else { rustix::thread::set_thread_uid(program.uid) }
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
            // It may be there, and what it needs to run may not.
            Errno::NOENT => rustix::fs::access(*path, rustix::fs::Access::EXISTS).is_err(),
            Errno::NOTDIR | Errno::ISDIR => true,
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
