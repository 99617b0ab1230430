//! Changes in a folder as events, by inotify: how a test meets a box in the middle of its start.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

/// A folder, or a file, that is watched.
#[derive(Debug)]
pub struct Folder {
    inotify: OwnedFd,
}

impl Folder {
    /// Watches what appears, vanishes or is written in a folder from now on.
    ///
    /// # Panics
    /// When it can't be watched.
    pub fn watch(path: &Path) -> Folder {
        Folder::watch_there(path).unwrap_or_else(|| panic!("{} is not there", path.display()))
    }

    /// The same for one that may have gone.
    ///
    /// # Panics
    /// When it is there and can't be watched.
    pub fn watch_there(path: &Path) -> Option<Folder> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let inotify = init(flags).expect("inotify works");
        let events = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::MODIFY;
        match add_watch(&inotify, path, events) {
            Ok(_) => Some(Folder { inotify }),
            Err(Errno::NOENT) => None,
            Err(errno) => panic!("can't watch {}: {errno}", path.display()),
        }
    }

    /// Waits until something that happens in it makes `done` say something. It is asked once before.
    ///
    /// # Panics
    /// When time is up.
    #[track_caller]
    pub fn until<T>(&self, mut done: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + crate::DEADLINE;
        loop {
            if let Some(value) = done() {
                return value;
            }
            assert!(self.changed_before(deadline), "what was awaited in a folder did not happen");
        }
    }

    fn changed_before(&self, deadline: Instant) -> bool {
        let left: Duration = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&timeout));
        if ready.is_ok_and(|count| count == 0) {
            return false;
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while reader.next().is_ok() {}
        true
    }
}
