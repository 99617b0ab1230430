//! The log of main's output: bytes, by stream, with times.
//!
//! A record is: time (u64, nanoseconds since 1970), stream (u8: 1 or 2), length (u32), bytes; all
//! numbers little-endian. A record that was cut short by a crash is the end of the log.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::clock::Moment;

const HEADER: usize = 13;
const MAX_RECORD: u32 = 1 << 20;

/// Which of main's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One piece of output, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: Moment,
    /// Where.
    pub stream: Stream,
    /// What.
    pub bytes: Vec<u8>,
}

/// Appends to a log. One per box: its shim.
#[derive(Debug)]
pub struct Writer {
    file: File,
}

impl Writer {
    /// Opens a log for appending.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(path: &Path) -> io::Result<Writer> {
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        Ok(Writer { file })
    }

    /// Appends one piece.
    ///
    /// # Errors
    /// When the disk says no; the log then ends before this piece.
    pub fn append(&mut self, time: Moment, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(MAX_RECORD as usize) {
            let mut record = Vec::with_capacity(HEADER + chunk.len());
            record.extend(time.0.to_le_bytes());
            record.push(if stream == Stream::Stdout { 1 } else { 2 });
            record.extend((chunk.len() as u32).to_le_bytes());
            record.extend(chunk);
            let before = self.file.metadata()?.len();
            if let Err(error) = self.file.write_all(&record) {
                // Half a record would hide everything after it.
                self.file.set_len(before)?;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Reads a log from its beginning.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    /// Where the next record begins.
    at: u64,
}

impl Reader {
    /// Opens a log. A box that never wrote has none: that is `None`.
    ///
    /// # Errors
    /// When it is there and can't be opened.
    pub fn open(path: &Path) -> io::Result<Option<Reader>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Reader { file: BufReader::new(file), at: 0 })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next piece; `None` at the end, also where the last record is not whole. What is written
    /// later comes when this is called again.
    ///
    /// # Errors
    /// When the file can't be read or is not a log.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut header = [0; HEADER];
        if !fill(&mut self.file, &mut header)? {
            return self.not_yet();
        }
        let [t0, t1, t2, t3, t4, t5, t6, t7, stream, l0, l1, l2, l3] = header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let stream = match stream {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            other => return Err(damaged(format!("a record of stream {other}"))),
        };
        if length > MAX_RECORD {
            return Err(damaged(format!("a record of {length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        if !fill(&mut self.file, &mut bytes)? {
            return self.not_yet();
        }
        self.at += (HEADER + bytes.len()) as u64;
        let time = Moment(u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]));
        Ok(Some(Entry { time, stream, bytes }))
    }

    /// What is there of a record is read again with the rest of it.
    fn not_yet(&mut self) -> io::Result<Option<Entry>> {
        self.file.seek(SeekFrom::Start(self.at))?;
        Ok(None)
    }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the log is damaged: {what}"))
}

fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h11_what_was_written_is_read_and_a_torn_end_is_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert!(Reader::open(&path).unwrap().is_none());
        let mut writer = Writer::open(&path).unwrap();
        writer.append(Moment(1), Stream::Stdout, b"out\0\xff").unwrap();
        writer.append(Moment(2), Stream::Stderr, b"err").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut reader = Reader::open(&path).unwrap().unwrap();
            let mut entries = Vec::new();
            while let Some(entry) = reader.next_entry().unwrap() {
                entries.push(entry.bytes);
            }
            let expected = usize::from(cut >= 18) + usize::from(cut == whole.len());
            assert_eq!(entries.len(), expected, "{cut}");
        }
        // What follows a torn end is found by who had read up to it.
        std::fs::write(&path, &whole[..20]).unwrap();
        let mut reader = Reader::open(&path).unwrap().unwrap();
        assert!(reader.next_entry().unwrap().is_some());
        assert!(reader.next_entry().unwrap().is_none());
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(reader.next_entry().unwrap().unwrap().bytes, b"err");
        std::fs::write(&path, [9; 40]).unwrap();
        assert!(Reader::open(&path).unwrap().unwrap().next_entry().is_err());
    }
}
