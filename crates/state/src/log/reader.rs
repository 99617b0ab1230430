//! The reading end of a log: from its beginning, on to whatever is appended, from piece to piece.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Entry, HEADER, MAX_RECORD, header};
use crate::segments::Segments;

/// What one read takes, in bytes.
const READ: usize = 64 << 10;

/// A place in a log.
#[derive(Debug)]
pub struct Reader {
    segments: Segments,
    number: u64,
    file: Option<File>,
    /// Where in the piece `read` begins.
    offset: u64,
    /// What was read, from the beginning of a record on.
    read: Vec<u8>,
    taken: usize,
}

impl Reader {
    /// Before the oldest piece that is kept. A box that never wrote has an empty log.
    ///
    /// # Errors
    /// When it is there and can't be opened.
    pub fn open(directory: &Path) -> io::Result<Reader> {
        let segments = Segments::of(directory);
        let number = segments.numbers()?.first().copied().unwrap_or(1);
        let mut reader =
            Reader { segments, number, file: None, offset: 0, read: Vec::new(), taken: 0 };
        reader.enter(number)?;
        Ok(reader)
    }

    /// The next piece; `None` at the end, also where the last record is not whole: then it may be
    /// asked again.
    ///
    /// # Errors
    /// When the file can't be read or is not a log.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.take()? {
                return Ok(Some(entry));
            }
            if self.read_more()? {
                continue;
            }
            let next = self.segments.after(self.number)?;
            // A piece that was not there when it was looked for may be there now, and full already.
            if self.file.is_none() && self.enter(self.number)? {
                continue;
            }
            let Some(next) = next else { return Ok(None) };
            // This piece has got its last record by now, since there is another.
            if !self.read_more()? {
                self.enter(next)?;
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<Entry>> {
        let rest = &self.read[self.taken..];
        let Some((beginning, behind)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let (time, stream, length) = header(*beginning)?;
        let Some(bytes) = behind.get(..length) else { return Ok(None) };
        let entry = Entry { time, stream, bytes: bytes.to_vec() };
        self.taken += HEADER + length;
        Ok(Some(entry))
    }

    /// Whether there was more, or something else. A record that is not whole is read anew each time: its writer may take
    /// its beginning back.
    fn read_more(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        self.offset += self.taken as u64;
        self.read.drain(..self.taken);
        self.taken = 0;
        let before = std::mem::take(&mut self.read);
        let wanted = if before.len() < READ / 2 { READ } else { MAX_RECORD as usize + HEADER };
        self.read.resize(wanted, 0);
        let mut count = 0;
        while count < wanted {
            match file.read_at(&mut self.read[count..], self.offset + count as u64)? {
                0 => break,
                more => count += more,
            }
        }
        self.read.truncate(count);
        Ok(self.read != before)
    }

    /// Whether that piece is there.
    fn enter(&mut self, number: u64) -> io::Result<bool> {
        self.number = number;
        (self.offset, self.taken) = (0, 0);
        self.read.clear();
        self.file = match File::open(self.segments.path(number)) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(self.file.is_some())
    }
}
