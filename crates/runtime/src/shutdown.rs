//! The end of a program that has boxes: those that live by it are stopped, all at the same time, within one
//! deadline (contract H8).
//!
//! A program that just dies needs none of this: each attached box's shim hears of it and stops its box,
//! with the box's own time. This is for those who want to know that it is done, and by when.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use boxwood_state::control::Request;
use boxwood_types::BoxId;
use tokio::task::JoinSet;

use crate::wait::END;
use crate::{Error, Runtime};

/// So many that have ended are kept in mind before they are looked for.
const FORGOTTEN: usize = 64;
/// What is kept of a deadline for a main that is killed and a disk that is flushed; of a short one half.
const LEAVING: Duration = Duration::from_secs(1);

/// The boxes that live by this program: a runtime and its clones have them in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attachments(Arc<Mutex<BTreeSet<BoxId>>>);

impl Attachments {
    pub(crate) fn add(&self, runtime: &Runtime, id: &BoxId) {
        let mut ids = self.ids();
        ids.insert(id.clone());
        if ids.len() > FORGOTTEN {
            // Those that somebody owns have not ended.
            let owned = |id: &BoxId| {
                let dir = runtime.home.get(id).ok().flatten();
                dir.is_some_and(|dir| matches!(dir.look_unowned(), Ok(None)))
            };
            ids.retain(owned);
        }
    }

    pub(crate) fn remove(&self, id: &BoxId) {
        self.ids().remove(id);
    }

    fn ids(&self) -> MutexGuard<'_, BTreeSet<BoxId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shuts a runtime down when it is dropped, however that comes about.
#[derive(Debug)]
pub struct ShutdownOnDrop {
    runtime: Runtime,
    within: Duration,
}

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        // There is nobody to tell; what is left is each box's own shim's.
        let _ = self.runtime.shutdown_blocking(self.within);
    }
}

impl Runtime {
    /// Stops all boxes that were started attached by this runtime or its clones, at the same time. Each has
    /// its own time to end, and none more than is left of this one; what has not ended by then is killed.
    /// Returns when all have ended and their disks are flushed.
    ///
    /// # Errors
    /// When one of them could not be ended; the others have been.
    pub async fn shutdown(&self, within: Duration) -> Result<(), Error> {
        let ids = std::mem::take(&mut *self.attachments.ids());
        let mut ends = JoinSet::new();
        for id in ids {
            let runtime = self.clone();
            ends.spawn(async move { runtime.end_by(&id, within).await });
        }
        let mut result = Ok(());
        while let Some(ended) = ends.join_next().await {
            // A task that panicked has said so.
            result = result.and(ended.unwrap_or(Ok(())));
        }
        result
    }

    /// The same where nothing can be awaited: in a destructor, in a function that runs at exit, on a thread
    /// that waits for signals. Blocks.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown), and when there is no thread or event loop to be had.
    pub fn shutdown_blocking(&self, within: Duration) -> Result<(), Error> {
        let runtime = self.clone();
        // On a thread of its own, as the caller's may belong to an event loop.
        let thread = thread::Builder::new().name("shutdown".to_owned()).spawn(move || {
            let event_loop = tokio::runtime::Builder::new_current_thread().enable_all().build();
            event_loop.map_err(Error::NoLoop)?.block_on(runtime.shutdown(within))
        });
        thread.map_err(Error::NoLoop)?.join().unwrap_or(Ok(()))
    }

    /// Shuts this runtime down when what is returned is dropped.
    pub fn shutdown_on_drop(&self, within: Duration) -> ShutdownOnDrop {
        ShutdownOnDrop { runtime: self.clone(), within }
    }

    async fn end_by(&self, id: &BoxId, within: Duration) -> Result<(), Error> {
        let Some(dir) = self.home.get(id)? else { return Ok(()) };
        let Some(listed) = self.read(dir)? else { return Ok(()) };
        if !listed.record.state.is_live() {
            return Ok(());
        }
        let grace = Duration::from_millis(listed.spec.stop.grace_ms);
        let grace = grace.min(within - LEAVING.min(within / 2));
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let stop = self.stop(&listed, None, Some(grace_ms));
        let ended = match tokio::time::timeout(within, stop).await {
            Ok(ended) => ended.map(drop),
            // Its guest did not do what it should.
            Err(_) => self.ask_and_wait(&listed.dir, &Request::Kill, END).await.map(drop),
        };
        match ended {
            // It was to be removed at its end, and has been.
            Err(Error::ShimLost { .. }) if !listed.dir.path().exists() => Ok(()),
            other => other,
        }
    }
}
