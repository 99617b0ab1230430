//! The writing end of the journal: any number of processes append to it at the same time.
//!
//! An event is a line of JSON, appended in one write, so that those of several writers never mix. When
//! the disk was full in the middle of one, the next writer ends the torn line first.

use std::fs::File;
use std::io::{self, Write};
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
        Appender { journal: self.clone(), open: None }
    }

    #[cfg(test)]
    pub(super) fn full_at(mut self, full: u64) -> Journal {
        self.full = full;
        self
    }
}

/// Appends to a journal, and keeps open what it needs for that.
#[derive(Debug)]
pub struct Appender {
    journal: Journal,
    open: Option<Piece>,
}

/// The newest piece.
#[derive(Debug)]
struct Piece {
    /// Held while somebody writes, by all of them, and alone by who ends a piece. Without it an event may be
    /// behind the end of a piece that is not read any more.
    lock: Option<File>,
    number: u64,
    file: File,
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
        let mut piece = match self.open.take() {
            Some(piece) => piece.locked(),
            None => Piece::newest(&segments)?,
        };
        if !piece.is_newest(&segments)? {
            piece = Piece::newest(&segments)?;
        }
        let length = piece.append(event)?;
        piece.take_turn(FlockOperation::Unlock);
        if length >= *full && piece.take_turn(FlockOperation::NonBlockingLockExclusive) {
            // It is written: whoever comes next tries again to begin another piece.
            if open(&segments, piece.number + 1).is_ok() {
                let _ = segments.keep(KEPT);
            }
            return Ok(());
        }
        self.open = Some(piece);
        Ok(())
    }
}

impl Piece {
    fn newest(segments: &Segments) -> io::Result<Piece> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(segments.lock()).ok();
        if let Some(lock) = &lock {
            let _ = rustix::fs::flock(lock, FlockOperation::LockShared);
        }
        let number = segments.newest()?;
        Ok(Piece { lock, number, file: open(segments, number)? })
    }

    fn locked(self) -> Piece {
        self.take_turn(FlockOperation::LockShared);
        self
    }

    fn take_turn(&self, how: FlockOperation) -> bool {
        self.lock.as_ref().is_some_and(|lock| rustix::fs::flock(lock, how).is_ok())
    }

    /// Whether it is what others append to, too: there is no later one, and it was not deleted.
    fn is_newest(&self, segments: &Segments) -> io::Result<bool> {
        let links = rustix::fs::fstat(&self.file)?.st_nlink;
        Ok(links > 0 && !segments.path(self.number + 1).try_exists()?)
    }

    /// How long it was.
    fn append(&mut self, event: &Event) -> io::Result<u64> {
        let length = self.file.metadata()?.len();
        let mut line = Vec::with_capacity(512);
        if length > 0 {
            let mut last = [0];
            self.file.read_exact_at(&mut last, length - 1)?;
            if last != *b"\n" {
                line.push(b'\n');
            }
        }
        serde_json::to_writer(&mut line, event)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        Ok(length)
    }
}

fn open(segments: &Segments, number: u64) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600).open(segments.path(number))
}
