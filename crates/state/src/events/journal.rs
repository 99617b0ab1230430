//! The writing end of the journal: any number of processes append to it at the same time.
//!
//! An event is a line of JSON, appended in one write, so that those of several writers never mix. When
//! the disk was full in the middle of one, the next writer ends the torn line first.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::Event;
use crate::StateError;
use crate::segments::Segments;

/// When a piece is full, in bytes.
const FULL: u64 = 4 << 20;
/// How many pieces are kept.
const KEPT: usize = 4;

/// The journal of a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    directory: PathBuf,
    full: u64,
}

impl Journal {
    /// The journal in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(directory: &Path) -> Result<Journal, StateError> {
        let made = Segments::of(directory).make();
        made.map_err(StateError::io("make the directory", directory))?;
        Ok(Journal { directory: directory.to_owned(), full: FULL })
    }

    /// The directory: who follows the journal watches it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Appends an event.
    ///
    /// # Errors
    /// When the disk says no. The box lives on: an event is news, not a record.
    pub fn append(&self, event: &Event) -> Result<(), StateError> {
        self.appender().append(event)
    }

    /// For who appends often.
    pub fn appender(&self) -> Appender {
        Appender { journal: self.clone(), end: None }
    }

    #[cfg(test)]
    pub(super) fn full_at(mut self, full: u64) -> Journal {
        self.full = full;
        self
    }
}

/// Appends to a journal, and remembers where its end is. It keeps no piece open: the journal deletes those, and
/// who has nothing to say for long must not keep the room of one.
#[derive(Debug)]
pub struct Appender {
    journal: Journal,
    end: Option<End>,
}

/// Where events are appended.
#[derive(Debug)]
struct End {
    /// Held while somebody writes, by all of them, and alone by who ends a piece. Without it an event may be
    /// behind the end of a piece that is not read any more.
    lock: Option<File>,
    /// Of the newest piece.
    number: u64,
}

impl Appender {
    /// Appends an event.
    ///
    /// # Errors
    /// When the disk says no. The box lives on: an event is news, not a record.
    pub fn append(&mut self, event: &Event) -> Result<(), StateError> {
        self.write(event).map_err(StateError::io("write an event to", &self.journal.directory))
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let Journal { directory, full } = &self.journal;
        let segments = Segments::of(directory);
        // So that no piece is ended while somebody may still write to it. Who ends one waits for nobody,
        // and is waited for as long as it takes to make a file, once in megabytes. What is dropped on the
        // way out lets the others go on.
        let mut end = match self.end.take() {
            Some(end) => end.locked(),
            None => End::find(&segments)?,
        };
        let mut piece = match end.piece(&segments)? {
            Some(piece) => piece,
            None => {
                end = End::find(&segments)?;
                open(&segments, end.number)?
            }
        };
        let length = append(&mut piece, event)?;
        end.take_turn(FlockOperation::Unlock);
        if length >= *full && end.take_turn(FlockOperation::NonBlockingLockExclusive) {
            // It is written: whoever comes next tries again to begin another piece.
            if open(&segments, end.number + 1).is_ok() {
                let _ = segments.keep(KEPT);
            }
            return Ok(());
        }
        self.end = Some(end);
        Ok(())
    }
}

impl End {
    fn find(segments: &Segments) -> io::Result<End> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(segments.lock()).ok();
        if let Some(lock) = &lock {
            let _ = rustix::fs::flock(lock, FlockOperation::LockShared);
        }
        Ok(End { lock, number: segments.newest()? })
    }

    fn locked(self) -> End {
        self.take_turn(FlockOperation::LockShared);
        self
    }

    fn take_turn(&self, how: FlockOperation) -> bool {
        self.lock.as_ref().is_some_and(|lock| rustix::fs::flock(lock, how).is_ok())
    }

    /// The piece, if it is what others append to, too: it is there, and there is no later one.
    fn piece(&self, segments: &Segments) -> io::Result<Option<File>> {
        if segments.path(self.number + 1).try_exists()? {
            return Ok(None);
        }
        match options().open(segments.path(self.number)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }
}

/// How long the piece was.
fn append(piece: &mut File, event: &Event) -> io::Result<u64> {
    let length = piece.metadata()?.len();
    let mut line = Vec::with_capacity(512);
    if length > 0 {
        let mut last = [0];
        piece.read_exact_at(&mut last, length - 1)?;
        if last != *b"\n" {
            line.push(b'\n');
        }
    }
    serde_json::to_writer(&mut line, event)?;
    line.push(b'\n');
    piece.write_all(&line)?;
    Ok(length)
}

fn open(segments: &Segments, number: u64) -> io::Result<File> {
    options().create(true).mode(0o600).open(segments.path(number))
}

fn options() -> OpenOptions {
    let mut options = File::options();
    options.read(true).append(true);
    options
}
