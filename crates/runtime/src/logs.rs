//! `logs`: what main wrote, and what it writes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use boxwood_state::BoxDir;
use boxwood_state::clock::Moment;
use boxwood_state::control::Request;
use boxwood_state::log::{Entry, Lines, Reader};

use crate::changes::Changes;
use crate::wait::FOR_EVER;
use crate::{Error, Listed, Runtime};

/// Which part of a log.
#[derive(Clone, Debug, Default)]
pub struct LogsRequest {
    /// From then on.
    pub since: Option<Moment>,
    /// Up to then.
    pub until: Option<Moment>,
    /// Only the last so many lines of what there is.
    pub tail: Option<u64>,
    /// Also what is written later, until the box has ended and is not started again.
    pub follow: bool,
}

/// A part of a log, piece by piece.
pub struct Logs {
    request: LogsRequest,
    reader: Reader,
    lines: Lines,
    skipped: u64,
    following: Option<Following>,
}

struct Following {
    changes: Changes,
    /// Returns when nothing more will be written.
    over: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Runtime {
    /// A part of a box's log. A box that does not run is not followed.
    ///
    /// # Errors
    /// When the log can't be read or watched.
    pub fn logs(&self, listed: &Listed, request: LogsRequest) -> Result<Logs, Error> {
        let path = listed.dir.log();
        let failed = |action| {
            let path = path.clone();
            move |source| Error::Io { action, path, source }
        };
        let following = match request.follow && listed.record.state.is_live() {
            false => None,
            true => {
                let changes = Changes::of(&path).map_err(failed("watch"))?;
                let (runtime, dir) = (self.clone(), listed.dir.path().to_owned());
                let over = Box::pin(async move { runtime.over(&dir).await });
                Some(Following { changes, over })
            }
        };
        let mut skipped = 0;
        if let Some(tail) = request.tail {
            let mut reader = Reader::open(&path).map_err(failed("read"))?;
            let mut lines = Lines::default();
            while let Some(entry) = reader.next_entry().map_err(failed("read"))? {
                if request.wants(&entry) {
                    lines.cut(&entry, 0);
                }
            }
            skipped = lines.begun().saturating_sub(tail);
        }
        let reader = Reader::open(&path).map_err(failed("read"))?;
        Ok(Logs { request, reader, lines: Lines::default(), skipped, following })
    }

    /// Returns when a box has ended for good, or has gone.
    async fn over(&self, path: &std::path::Path) -> Result<(), Error> {
        let live = |dir: &BoxDir| {
            let record = self.record(dir).ok().flatten();
            record.is_some_and(|record| record.state.is_live())
        };
        while let Ok(Some(dir)) = BoxDir::open(path)
            && live(&dir)
        {
            // One run's end, or the end of the shim.
            match self.ask_and_wait(&dir, &Request::Wait, FOR_EVER).await {
                Ok(_) => {}
                Err(Error::ShimLost { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl LogsRequest {
    fn wants(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time <= until)
    }
}

impl Logs {
    /// The next piece; `None` after the last. May be dropped and called again.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            while let Some(mut entry) = self.reader.next_entry().map_err(Error::Log)? {
                if !self.request.wants(&entry) {
                    continue;
                }
                entry.bytes = self.lines.cut(&entry, self.skipped);
                if !entry.bytes.is_empty() {
                    return Ok(Some(entry));
                }
            }
            let left = self.request.until.map(|until| until.0.saturating_sub(Moment::now().0));
            let Some(following) = self.following.as_mut().filter(|_| left != Some(0)) else {
                return Ok(None);
            };
            let time_is_up = async {
                match left {
                    Some(left) => tokio::time::sleep(Duration::from_nanos(left)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = following.changes.wait() => changed.map_err(Error::Log)?,
                // All that was written before the end can be read now.
                over = &mut following.over => {
                    over?;
                    self.following = None;
                }
                () = time_is_up => {}
            }
        }
    }
}
