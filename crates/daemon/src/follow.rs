//! A box's log as a body: what was written, and what is written until the box has ended. Called by
//! `routes::logs`.
//!
//! That something was written is an event of the file system; that the box has ended is told by its
//! shim. Nothing is read ahead of what the client takes, but for one piece.

use std::io;
use std::path::Path;
use std::sync::Arc;

use boxwood_api::Logs;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::log::{Entry, Reader, Stream};
use boxwood_runtime::{Listed, Runtime};
use boxwood_wire::frame::{self, Kind};
use http_body_util::channel::Sender;
use hyper::body::Bytes;
use rustix::fs::inotify;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

use crate::app::{Ending, blocking};
use crate::convert;
use crate::error::ApiError;
use crate::stream::bytes_frame;
use crate::sys;

/// The most bytes of a log that are read at once.
const BATCH: usize = 256 << 10;

/// Why a body ends before its time: the client is not told that it is whole.
pub(crate) type Cut = io::Error;

/// Which pieces are wanted, and how.
#[derive(Debug)]
pub(crate) struct Wanted {
    follow: bool,
    timestamps: bool,
    since: Option<Moment>,
    until: Option<Moment>,
}

impl Wanted {
    pub(crate) fn new(asked: &Logs) -> Result<Self, ApiError> {
        Ok(Wanted {
            follow: asked.follow,
            timestamps: asked.timestamps,
            since: asked.since.as_deref().map(convert::moment).transpose()?,
            until: asked.until.as_deref().map(convert::moment).transpose()?,
        })
    }

    fn holds(&self, time: Moment) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    /// A piece as frames.
    fn frames(&self, entry: &Entry) -> Vec<u8> {
        let kind = if entry.stream == Stream::Stdout { Kind::Stdout } else { Kind::Stderr };
        let bytes = match self.timestamps {
            false => entry.bytes.clone(),
            true => stamped(&convert::rfc3339(entry.time), &entry.bytes),
        };
        bytes.chunks(frame::MAX_BYTES).flat_map(|chunk| bytes_frame(kind, chunk)).collect()
    }
}

fn stamped(time: &str, bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| [time.as_bytes(), b" ", line].concat()).collect()
}

/// A box's log.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) listed: Listed,
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) ending: Ending,
}

impl Follower {
    /// Sends it all.
    pub(crate) async fn send(self, body: Sender<Bytes, Cut>) {
        let mut body = body;
        let sent = tokio::select! {
            sent = self.pieces(&mut body) => sent,
            () = self.ending.said.cancelled(), if self.wanted.follow => Err(cut()),
            () = self.ending.due.cancelled() => Err(cut()),
        };
        if let Err(error) = sent {
            body.abort(error);
        }
    }

    async fn pieces(&self, body: &mut Sender<Bytes, Cut>) -> io::Result<()> {
        // Before anything is read: what is written after that is heard.
        let changes =
            if self.wanted.follow { Some(Changes::of(self.listed.dir.path())?) } else { None };
        let id = self.listed.spec.id.to_string();
        let mut reader = None;
        let mut lives = self.listed.record.state.is_live();
        loop {
            reader = self.read_all(reader, body).await?;
            let (true, Some(changes)) = (lives, &changes) else { return Ok(()) };
            // What it has written by its end is read once more.
            lives = tokio::select! {
                changed = changes.next() => changed.map(|()| true)?,
                () = self.end(&id) => self.lives(&id).await,
            };
        }
    }

    /// Sends what is there now.
    async fn read_all(
        &self,
        reader: Option<Reader>,
        body: &mut Sender<Bytes, Cut>,
    ) -> io::Result<Option<Reader>> {
        let mut reader = reader;
        loop {
            let (path, wanted) = (self.listed.dir.log(), Arc::clone(&self.wanted));
            let batch = blocking(move || {
                read(reader, &path, &wanted).map_err(|error| ApiError::internal(error.to_string()))
            });
            let (back, batch) = batch.await.map_err(|_| damaged())?;
            reader = back;
            let Some(batch) = batch else { return Ok(reader) };
            if !batch.is_empty() && body.send_data(batch.into()).await.is_err() {
                // The client has gone; there is nobody to tell.
                return Err(cut());
            }
        }
    }

    /// Returns when the box has ended, whether anybody knows how or not.
    async fn end(&self, id: &str) {
        let runtime = Arc::clone(&self.runtime);
        let id = id.to_owned();
        if let Ok(listed) = blocking(move || Ok(runtime.find(&id)?)).await {
            let _ = self.runtime.wait(listed).await;
        }
    }

    async fn lives(&self, id: &str) -> bool {
        let (runtime, id) = (Arc::clone(&self.runtime), id.to_owned());
        let listed = blocking(move || Ok(runtime.find(&id)?)).await;
        listed.is_ok_and(|listed| listed.record.state.is_live())
    }
}

/// Reads the next pieces. `None` when there are no more now.
fn read(
    reader: Option<Reader>,
    path: &Path,
    wanted: &Wanted,
) -> io::Result<(Option<Reader>, Option<Vec<u8>>)> {
    let reader = match reader {
        Some(reader) => Some(reader),
        None => Reader::open(path)?,
    };
    let Some(mut reader) = reader else { return Ok((None, None)) };
    let mut batch = Vec::new();
    while batch.len() < BATCH {
        let Some(entry) = reader.next_entry()? else {
            let batch = Some(batch).filter(|batch| !batch.is_empty());
            return Ok((Some(reader), batch));
        };
        if wanted.holds(entry.time) {
            batch.extend(wanted.frames(&entry));
        }
    }
    Ok((Some(reader), Some(batch)))
}

fn cut() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Changes of a box's directory, as events.
struct Changes {
    inotify: AsyncFd<OwnedFd>,
}

impl Changes {
    fn of(directory: &Path) -> io::Result<Self> {
        use inotify::{CreateFlags, WatchFlags};
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let what = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&inotify, directory, what)?;
        Ok(Changes { inotify: sys::watch(inotify)? })
    }

    /// Returns when something has changed since the last time.
    async fn next(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        self.inotify
            .async_io(tokio::io::Interest::READABLE, |fd| {
                rustix::io::read(fd, &mut buffer).map_err(io::Error::from)
            })
            .await
            .map(drop)
    }
}
