//! Changes in a directory, as events: inotify(7). Used by who follows the journal and the logs of boxes.

use std::io;
use std::path::Path;

use crate::sys::Readable;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Hears of what is written in a directory and of files that are made there.
#[derive(Debug)]
pub(crate) struct Changes {
    watch: Readable,
}

impl Changes {
    /// From now on.
    ///
    /// # Errors
    /// When the directory can't be watched.
    pub(crate) fn of(directory: &Path) -> io::Result<Changes> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, directory, what | WatchFlags::ONLYDIR)?;
        Ok(Changes { watch: Readable::new(watch)? })
    }

    /// Returns when something has changed since the last time, or since the beginning. May be dropped
    /// and called again.
    ///
    /// # Errors
    /// When nothing can be heard any more.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        // What exactly changed does not matter: who waits looks for itself.
        let mut notices = [0; 4096];
        self.watch.read(|watch| Ok(rustix::io::read(watch, &mut notices)?)).await?;
        Ok(())
    }
}
