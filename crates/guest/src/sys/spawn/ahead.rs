//! A child that was cloned before its program is known. It waits in the parent's memory and is frozen into a
//! template with it: under emulation the clone is a good part of what a start costs, and the same for every
//! program. Part of `spawn`; made for main, by `start`.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::thread::futex;
use rustix::time::Timespec;

use super::child::{end, go_on, leave_parent};
use super::{Cradle, DEATH, Nursery, Shared, cleared_within, clone_child};

/// The child prepares to wait.
const BEGUN: u32 = 0;
/// It waits: of our memory it uses this word and its own stack.
const WAITING: u32 = 1;
/// It could not get that far, and ends.
const FAILED: u32 = 2;
/// It is told to go on.
const GO: u32 = 3;

/// How long the parent waits before it looks whether the child was killed, which nobody tells it.
const A_MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What parent and child tell each other.
pub(super) struct Word {
    state: AtomicU32,
    /// The `Shared` that the child goes on with.
    shared: AtomicPtr<c_void>,
}

impl Word {
    pub(super) fn new() -> Self {
        Word { state: AtomicU32::new(BEGUN), shared: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Says how far it is to the other, who may wait for it.
    fn say(&self, state: u32) {
        self.state.store(state, Ordering::Release);
        // It can't fail; a child that does not wake is found as one that stands still.
        let _ = futex::wake(&self.state, futex::Flags::PRIVATE, 1);
    }

    /// Waits for a change of this state, woken or interrupted, at most so long.
    fn pause(&self, state: u32, at_most: Option<&Timespec>) {
        let _ = futex::wait(&self.state, futex::Flags::PRIVATE, state, at_most);
    }

    fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }
}

/// A child that waits for its program.
pub(super) struct Ahead {
    pid: Pid,
    /// It was cloned into the cgroup of this descriptor.
    cgroup: RawFd,
    cradle: Box<Cradle>,
}

impl Ahead {
    /// Clones one. It shares our descriptors until it goes on, so it has those, too, that are opened until then.
    fn new(cgroup: RawFd) -> Result<Self, Errno> {
        let mut cradle = Cradle::new();
        let word = (&raw const cradle.word).cast_mut().cast();
        let pid = clone_child(&mut cradle, cgroup, libc::CLONE_FILES, wait, word)?;
        let ahead = Ahead { pid, cgroup, cradle };
        while ahead.cradle.word.state() == BEGUN && ahead.lives() {
            ahead.cradle.word.pause(BEGUN, Some(&A_MOMENT));
        }
        Ok(ahead)
    }

    /// Whether it waits, or will in a moment: else it had too little memory for that.
    fn lives(&self) -> bool {
        self.cradle.tid.load(Ordering::Acquire) != 0 && self.cradle.word.state() != FAILED
    }

    /// Lets it go on with this, in the cradle that is returned.
    pub(super) fn go(self, shared: *mut c_void) -> (Pid, Box<Cradle>) {
        self.cradle.word.shared.store(shared, Ordering::Release);
        self.cradle.word.say(GO);
        (self.pid, self.cradle)
    }

    fn end(self) {
        // It is our child and not reaped: if it can't be killed, it has ended.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        if !cleared_within(&self.cradle.tid, DEATH) {
            // The kernel may yet write to it.
            std::mem::forget(self.cradle);
        }
    }
}

impl Nursery {
    /// Clones a child into this cgroup, for the first program that is started there.
    pub(crate) fn clone_ahead(&mut self, cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
        self.dismiss_ahead();
        let ahead = self.ahead.insert(Ahead::new(cgroup.as_raw_fd())?);
        if ahead.lives() {
            return Ok(());
        }
        self.dismiss_ahead();
        Err(Errno::CHILD)
    }

    /// The child that waits in this cgroup.
    pub(super) fn take_ahead(&mut self, cgroup: RawFd) -> Option<Ahead> {
        self.ahead.take_if(|ahead| ahead.cgroup == cgroup)
    }

    /// Ends the child that waits. One that goes on much later would be told to have run since now.
    pub(crate) fn dismiss_ahead(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            self.dead.push(ahead.pid);
            ahead.end();
        }
    }

    /// Whether this child, which was reaped, was the one that waits.
    pub(super) fn forget_ahead(&mut self, pid: Pid) -> bool {
        self.ahead.take_if(|ahead| ahead.pid == pid).is_some()
    }
}

/// The child's life until it is told to go on.
extern "C" fn wait(word: *mut c_void) -> ! {
    // SAFETY: `Ahead::new` passes the word of its cradle, which lives as long as we use it.
    let word = unsafe { &*word.cast_const().cast::<Word>() };
    if leave_parent().is_err() {
        word.say(FAILED);
        end();
    }
    word.say(WAITING);
    while word.state() == WAITING {
        word.pause(WAITING, None);
    }
    let shared = word.shared.load(Ordering::Acquire);
    // SAFETY: `spawn` passes its `Shared` and stands still until we have executed or ended.
    go_on(unsafe { &mut *shared.cast::<Shared<'_, '_>>() })
}
