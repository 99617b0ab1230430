//! The writing end of a log. One per box: its shim.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{HEADER, LogPolicy, MAX_RECORD, Stream, header};
use crate::clock::Moment;
use crate::segments::Segments;

/// Appends to a log.
#[derive(Debug)]
pub struct Writer {
    segments: Segments,
    policy: LogPolicy,
    number: u64,
    file: File,
    length: u64,
}

impl Writer {
    /// Opens a log for appending. What a crash left half-written is taken off.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(directory: &Path, policy: LogPolicy) -> io::Result<Writer> {
        let segments = Segments::of(directory);
        segments.make()?;
        let number = segments.newest()?;
        let file = open(&segments, number)?;
        let mut length = file.metadata()?.len();
        if length > 0 {
            length = whole(&segments, number, length)?;
            file.set_len(length)?;
        }
        Ok(Writer { segments, policy, number, file, length })
    }

    /// Appends one piece.
    ///
    /// # Errors
    /// When the disk says no; the log then ends before this piece.
    pub fn append(&mut self, time: Moment, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(MAX_RECORD as usize) {
            if self.length >= self.policy.max_size {
                self.rotate()?;
            }
            let mut record = Vec::with_capacity(HEADER + chunk.len());
            record.extend(time.0.to_le_bytes());
            record.push(if stream == Stream::Stdout { 1 } else { 2 });
            record.extend((chunk.len() as u32).to_le_bytes());
            record.extend(chunk);
            if let Err(error) = self.file.write_all(&record) {
                // Half a record would hide everything after it.
                self.file.set_len(self.length)?;
                return Err(error);
            }
            self.length += record.len() as u64;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = open(&self.segments, self.number + 1)?;
        self.number += 1;
        self.length = 0;
        self.segments.keep(self.policy.max_files.max(1) as usize)
    }
}

fn open(segments: &Segments, number: u64) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(segments.path(number))
}

/// How much of a piece are whole records.
fn whole(segments: &Segments, number: u64, length: u64) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(256 << 10, File::open(segments.path(number))?);
    let mut at = 0;
    loop {
        let mut beginning = [0; HEADER];
        match file.read_exact(&mut beginning) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(at),
            Err(error) => return Err(error),
        }
        // What is damaged is left for the reader to tell.
        let Ok((_, _, bytes)) = header(beginning) else { return Ok(length) };
        let end = at + (HEADER + bytes) as u64;
        if end > length {
            return Ok(at);
        }
        file.seek_relative(bytes as i64)?;
        at = end;
    }
}
