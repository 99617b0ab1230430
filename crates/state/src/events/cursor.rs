//! The reading end of the journal: from its beginning or its end, on to whatever is appended.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use super::{Event, Journal};
use crate::StateError;
use crate::segments::Segments;

/// The longest line that is taken for an event, in bytes.
const MAX_LINE: usize = 1 << 20;

/// A place in a journal.
#[derive(Debug)]
pub struct Cursor {
    journal: Journal,
    segments: Segments,
    number: u64,
    file: Option<File>,
    /// What was read and not handed out: whole lines, then perhaps the beginning of one.
    read: Vec<u8>,
    /// How much of it was handed out.
    taken: usize,
}

impl Cursor {
    /// Before the oldest event that is kept.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn at_start(journal: &Journal) -> Result<Cursor, StateError> {
        let segments = Segments::of(journal.directory());
        let numbers = segments.numbers().map_err(StateError::io("read", journal.directory()))?;
        let number = numbers.first().copied().unwrap_or(1);
        let mut cursor = Cursor {
            journal: journal.clone(),
            segments,
            number,
            file: None,
            read: Vec::new(),
            taken: 0,
        };
        cursor.enter(number).map_err(StateError::io("read", journal.directory()))?;
        Ok(cursor)
    }

    /// Behind the newest event.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn at_end(journal: &Journal) -> Result<Cursor, StateError> {
        let mut cursor = Cursor::at_start(journal)?;
        let mut to_end = || -> io::Result<()> {
            cursor.enter(cursor.segments.newest()?)?;
            if let Some(file) = &mut cursor.file {
                file.seek(SeekFrom::End(0))?;
            }
            Ok(())
        };
        to_end().map_err(StateError::io("read", journal.directory()))?;
        Ok(cursor)
    }

    /// The next event; `None` when there is none yet. A line that is no event is passed over.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn next_event(&mut self) -> Result<Option<Event>, StateError> {
        self.next_about("")
    }

    /// The next event in whose line this text is. The others are not even understood, which is what takes time.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn next_about(&mut self, text: &str) -> Result<Option<Event>, StateError> {
        let directory = self.journal.directory().to_owned();
        loop {
            while let Some(line) = self.next_line() {
                if let Some(event) = std::str::from_utf8(&line)
                    .ok()
                    .filter(|line| line.contains(text))
                    .and_then(|line| serde_json::from_str(line).ok())
                {
                    return Ok(Some(event));
                }
            }
            if !self.read_on().map_err(StateError::io("read", &directory))? {
                return Ok(None);
            }
        }
    }

    /// Where the journal is.
    pub fn directory(&self) -> &std::path::Path {
        self.journal.directory()
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        let rest = &self.read[self.taken..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest[..end].to_vec();
        self.taken += end + 1;
        Some(line)
    }

    /// Whether there was more.
    fn read_on(&mut self) -> io::Result<bool> {
        self.read.drain(..self.taken);
        self.taken = 0;
        if self.read.len() > MAX_LINE {
            // What is so long is no event; its end is passed over as a line that is none.
            self.read.truncate(1);
        }
        if self.read_more()? {
            return Ok(true);
        }
        let next = self.segments.after(self.number)?;
        // A piece that was not there when it was looked for may be there now, and full already.
        if self.file.is_none() && self.enter(self.number)? {
            return Ok(true);
        }
        let Some(next) = next else { return Ok(false) };
        // Nobody writes to this piece any more since there is another: this was its end, or is now.
        if self.read_more()? {
            return Ok(true);
        }
        self.read.clear();
        self.enter(next)?;
        Ok(true)
    }

    fn read_more(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let mut buffer = [0; 64 << 10];
        let count = file.read(&mut buffer)?;
        self.read.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }

    /// Whether that piece is there.
    fn enter(&mut self, number: u64) -> io::Result<bool> {
        self.number = number;
        self.file = match File::open(self.segments.path(number)) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(self.file.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Actor;
    use std::io::Write;

    fn event(n: u64) -> Event {
        let actor = Actor { id: n.to_string(), attributes: Default::default() };
        let (kind, scope) = ("container".to_owned(), "local".to_owned());
        Event { kind, action: "start".into(), actor, scope, time: n, time_nano: n }
    }

    fn journal(full: u64) -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("events")).unwrap().full_at(full);
        (directory, journal)
    }

    fn all(cursor: &mut Cursor) -> Vec<u64> {
        std::iter::from_fn(|| cursor.next_event().unwrap()).map(|event| event.time).collect()
    }

    #[test]
    fn h12_a_follower_hears_every_event_across_rotations_and_the_journal_is_bounded() {
        let (_directory, journal) = journal(2000);
        let mut follower = Cursor::at_end(&journal).unwrap();
        let mut heard = Vec::new();
        for n in 0..300 {
            journal.append(&event(n)).unwrap();
            if n % 7 == 0 {
                heard.extend(all(&mut follower));
            }
        }
        heard.extend(all(&mut follower));
        assert_eq!(heard, (0..300).collect::<Vec<_>>());
        let kept = all(&mut Cursor::at_start(&journal).unwrap());
        assert!(kept.len() < 200 && kept.last() == Some(&299), "{kept:?}");
        assert_eq!(all(&mut Cursor::at_end(&journal).unwrap()), [0; 0]);
    }

    #[test]
    fn h12_a_follower_of_an_empty_journal_does_not_pass_over_a_piece_that_filled_unseen() {
        let (_directory, journal) = journal(500);
        let mut followers =
            [Cursor::at_start(&journal).unwrap(), Cursor::at_end(&journal).unwrap()];
        let before_the_third_piece = (0..).find(|n| {
            journal.append(&event(*n)).unwrap();
            Segments::of(journal.directory()).newest().unwrap() == 3
        });
        let last = before_the_third_piece.unwrap();
        for follower in &mut followers {
            assert_eq!(all(follower), (0..=last).collect::<Vec<_>>());
        }
    }

    #[test]
    fn h12_a_torn_line_costs_no_event_but_its_own() {
        let (_directory, journal) = journal(1 << 20);
        journal.append(&event(1)).unwrap();
        let path = Segments::of(journal.directory()).path(1);
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(b"{\"Type\":\"contai").unwrap();
        let mut cursor = Cursor::at_start(&journal).unwrap();
        assert_eq!(all(&mut cursor), [1]);
        journal.append(&event(2)).unwrap();
        assert_eq!(all(&mut cursor), [2]);
        assert_eq!(all(&mut Cursor::at_start(&journal).unwrap()), [1, 2]);
    }

    #[test]
    fn h12_an_event_behind_which_no_piece_can_be_begun_is_written_once() {
        let (_directory, journal) = journal(1);
        let mut appender = journal.appender();
        appender.append(&event(1)).unwrap();
        // What leads nowhere can't be opened, and does not exist.
        let next = Segments::of(journal.directory()).path(2);
        std::os::unix::fs::symlink("/nowhere/piece", &next).unwrap();
        appender.append(&event(2)).expect("it is written");
        std::fs::remove_file(next).unwrap();
        appender.append(&event(3)).unwrap();
        assert_eq!(all(&mut Cursor::at_start(&journal).unwrap()), [1, 2, 3]);
    }

    #[test]
    fn h12_who_has_nothing_to_say_for_long_keeps_no_piece_from_being_deleted() {
        let (_directory, journal) = journal(1);
        let mut quiet = journal.appender();
        quiet.append(&event(0)).unwrap();
        (1..20).for_each(|n| journal.append(&event(n)).unwrap());
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let pieces: Vec<_> = open.filter(|path| path.starts_with(journal.directory())).collect();
        assert_eq!(pieces, [Segments::of(journal.directory()).lock()]);
        quiet.append(&event(20)).unwrap();
        assert_eq!(all(&mut Cursor::at_start(&journal).unwrap()).last(), Some(&20));
    }

    #[test]
    fn h12_writers_at_the_same_time_lose_nothing() {
        // So that the follower is never so far behind that the oldest piece is gone.
        let (_directory, journal) = journal(20_000);
        let mut follower = Cursor::at_start(&journal).unwrap();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let journal = journal.clone();
                std::thread::spawn(move || {
                    (0..100).for_each(|n| journal.append(&event(writer * 100 + n)).unwrap());
                })
            })
            .collect();
        let mut heard = Vec::new();
        while heard.len() < 400 {
            heard.extend(all(&mut follower));
            if writers.iter().all(std::thread::JoinHandle::is_finished) {
                heard.extend(all(&mut follower));
                break;
            }
        }
        heard.sort_unstable();
        assert_eq!(heard, (0..400).collect::<Vec<_>>());
    }
}
