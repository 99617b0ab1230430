//! A file in numbered pieces: the newest grows, the oldest goes. Used by the journal of events and by the
//! logs of boxes, whose readers follow from piece to piece.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory of the pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    directory: PathBuf,
}

impl Segments {
    /// In this directory.
    pub(crate) fn of(directory: &Path) -> Self {
        Segments { directory: directory.to_owned() }
    }

    /// Makes the directory if it is not there.
    pub(crate) fn make(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)
    }

    /// Where a piece is.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:06}"))
    }

    /// What who writes to it holds.
    pub(crate) fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// The numbers of the pieces that are there, in order.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let number = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok())?
        };
        let mut numbers: Vec<u64> = entries.filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The number of the newest piece, or the one that the first will have.
    pub(crate) fn newest(&self) -> io::Result<u64> {
        Ok(self.numbers()?.last().copied().unwrap_or(1))
    }

    /// The oldest piece behind this one.
    pub(crate) fn after(&self, number: u64) -> io::Result<Option<u64>> {
        Ok(self.numbers()?.into_iter().find(|other| *other > number))
    }

    /// Deletes all but the newest pieces. One that can't be deleted is deleted the next time.
    pub(crate) fn keep(&self, count: usize) -> io::Result<()> {
        let numbers = self.numbers()?;
        for number in &numbers[..numbers.len().saturating_sub(count)] {
            let _ = fs::remove_file(self.path(*number));
        }
        Ok(())
    }
}
