//! How much a session's pipe holds: 64 KiB (pipe(7)), or more once a lot has gone through it. Called by `stdio`.
//!
//! Of 64 KiB the one side is done within a fraction of a millisecond, and with each turn of the other an
//! emulated CPU translates all of its addresses anew. But what pipes hold is nobody's memory, so not all of
//! them can be large, and none that is not read.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

/// What a pipe holds at first, in bytes.
const USUAL: usize = 64 * 1024;
/// What a large one holds.
pub(super) const LARGE: usize = 256 * 1024;
/// What goes through a pipe before it is made large, in bytes: more than a host that does not read takes.
pub(super) const MUCH: usize = 1 << 20;
/// The part of the box's memory that large pipes may hold: one in so many.
const PART: u64 = 64;

/// Large pipes at this moment.
static WIDE: AtomicU64 = AtomicU64::new(0);

/// One of the large pipes that there may be.
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let more = |wide: u64| (wide < most()).then_some(wide + 1);
        WIDE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        WIDE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many may be large.
fn most() -> u64 {
    static MOST: OnceLock<u64> = OnceLock::new();
    *MOST.get_or_init(|| {
        let memory = rustix::system::sysinfo();
        memory.totalram as u64 * u64::from(memory.mem_unit) / PART / LARGE as u64
    })
}

/// What has gone through a pipe, and whether that made it large.
#[derive(Debug, Default)]
pub(super) struct Width {
    passed: usize,
    place: Option<Place>,
}

impl Width {
    /// So many bytes more went through the pipe `fd`.
    pub(super) fn passed(&mut self, fd: &OwnedFd, count: usize) {
        let before = self.passed;
        self.passed = before.saturating_add(count);
        // Looked at once. A process that has given it another size has its reasons, and a terminal has none.
        if before < MUCH && self.passed >= MUCH && fcntl_getpipe_size(fd) == Ok(USUAL) {
            self.place = Place::take().filter(|_| fcntl_setpipe_size(fd, LARGE).is_ok());
        }
    }
}
