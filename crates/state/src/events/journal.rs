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
        self.write(event).map_err(StateError::io("write an event to", &self.directory))
    }

    fn write(&self, event: &Event) -> io::Result<()> {
        // So that no piece is ended while somebody may still write to it. Who ends one waits for nobody,
        // and is waited for as long as it takes to make a file, once in megabytes.
        let turn = self.turn(FlockOperation::LockShared);
        let segments = Segments::of(&self.directory);
        let newest = segments.newest()?;
        let mut options = File::options();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(segments.path(newest))?;
        let length = file.metadata()?.len();
        let mut line = Vec::with_capacity(512);
        if length > 0 {
            let mut last = [0];
            file.read_exact_at(&mut last, length - 1)?;
            if last != *b"\n" {
                line.push(b'\n');
            }
        }
        serde_json::to_writer(&mut line, event)?;
        line.push(b'\n');
        file.write_all(&line)?;
        drop(turn);
        if length >= self.full && self.turn(FlockOperation::NonBlockingLockExclusive).is_some() {
            options.open(segments.path(newest + 1))?;
            segments.keep(KEPT)?;
        }
        Ok(())
    }

    fn turn(&self, how: FlockOperation) -> Option<File> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(self.directory.join("lock")).ok()?;
        rustix::fs::flock(&lock, how).ok().map(|()| lock)
    }

    #[cfg(test)]
    pub(super) fn full_at(mut self, full: u64) -> Journal {
        self.full = full;
        self
    }
}
