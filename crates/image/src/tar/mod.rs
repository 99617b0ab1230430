//! A tar reader for hostile input: every length is checked before it allocates, and what two
//! readers could understand differently is refused. Called by the layer merge (over a stream) and
//! by the archive index (over a file, without reading the data).
//!
//! It reads what container tools write: ustar, PAX and GNU headers, long names, large numbers,
//! PAX extended attributes, and all four sparse formats. Like Go's archive/tar, which all of those
//! tools use, it ignores global PAX headers and the size of entries that carry no data.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead};

use tar::Header;

use crate::limits;
use header::{RawHeader, field};
use pax::Pax;
pub(crate) use sparse::SparseMap;

const BLOCK: u64 = 512;

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The input failed: a read, a decompressor, or a limit of the stream below.
    #[error("the archive can't be read to its end")]
    Read(#[source] io::Error),
    /// The input ended inside a header or inside an entry.
    #[error("the archive is cut short: it ends inside '{0}'")]
    Truncated(String),
    /// A header whose checksum is wrong.
    #[error("no tar header at offset {0}: the archive is damaged or is no tar archive")]
    Checksum(u64),
    /// A number that does not parse or does not fit.
    #[error("'{path}': its {field} is not a number that fits")]
    Number {
        /// The entry.
        path: String,
        /// Which number.
        field: &'static str,
    },
    /// A malformed PAX extended header.
    #[error("malformed PAX header at offset {offset}: {reason}")]
    Pax {
        /// Where its header stands.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A malformed map of a sparse file.
    #[error("'{path}': malformed sparse map: {reason}")]
    Sparse {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An extended header or name longer than the limit.
    #[error(
        "a name or extended header at offset {offset} claims {claimed} bytes; {limit} is the limit"
    )]
    TooLong {
        /// Where its header stands.
        offset: u64,
        /// What it claims.
        claimed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A directory, by its name, that has data.
    #[error("'{0}' is named as a directory and has data")]
    DirectoryWithData(String),
    /// An entry of a kind that is in no container image.
    #[error("'{path}' is an entry of unknown type {kind:?}")]
    UnknownType {
        /// The entry.
        path: String,
        /// The type byte.
        kind: char,
    },
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry, as claimed: nothing in it has been checked but its syntax.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    /// Bytes of the file, with its holes.
    pub(crate) size: u64,
    /// Bytes in the archive.
    pub(crate) stored: u64,
    /// Where the stored bytes belong, when not all of them are stored.
    pub(crate) sparse: Option<SparseMap>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A buffered input that can skip.
pub(crate) trait TarInput: BufRead {
    /// Moves `count` bytes ahead; an early end is `UnexpectedEof`.
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = count.min(available as u64);
            self.consume(step as usize);
            count -= step;
        }
        Ok(())
    }
}

impl<T: TarInput + ?Sized> TarInput for &mut T {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        (**self).skip(count)
    }
}

/// Whether the archive had its end marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A block of zeros.
    Marked,
    /// The input just ended after an entry.
    Unmarked,
}

/// Reads one archive front to back. After [`TarReader::next`] gave an entry, [`TarReader::fill`]
/// and [`TarReader::consume`] give its stored bytes.
pub(crate) struct TarReader<R> {
    input: R,
    offset: u64,
    /// Unread data of the current entry, and the padding after it.
    data: u64,
    padding: u64,
    name: String,
    end: Option<End>,
}

impl<R: TarInput> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        TarReader { input, offset: 0, data: 0, padding: 0, name: "its start".into(), end: None }
    }

    /// How the archive ended; None before it did.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// Where in the input the next byte of the entry's data is.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry; None at the end. What is left of the last entry is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = Pax::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let unread = std::mem::take(&mut self.data);
            self.skip(unread)?;
            if !self.skip_padding()? {
                return Ok(None);
            }
            let at = self.offset;
            let Some(header) = self.header()? else { return Ok(None) };
            let raw = RawHeader(Header::from_byte_slice(&header));
            match raw.type_byte() {
                b'L' => {
                    long_name = Some(self.extension(&raw, at, limits::GNU_NAME_BYTES)?);
                }
                b'K' => {
                    long_link = Some(self.extension(&raw, at, limits::GNU_NAME_BYTES)?);
                }
                b'x' => {
                    let body = self.extension(&raw, at, limits::PAX_BYTES)?;
                    pax.parse(&body).map_err(|reason| TarError::Pax { offset: at, reason })?;
                }
                b'g' => {
                    self.extension(&raw, at, limits::PAX_BYTES)?;
                }
                _ => return self.entry(&raw, pax, long_name, long_link).map(Some),
            }
        }
    }

    /// A piece of the entry's stored bytes; empty when all have been consumed.
    pub(crate) fn fill(&mut self) -> Result<&[u8], TarError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let data = self.data;
        let chunk = self.input.fill_buf().map_err(TarError::Read)?;
        if chunk.is_empty() {
            return Err(TarError::Truncated(std::mem::take(&mut self.name)));
        }
        let usable = data.min(chunk.len() as u64) as usize;
        Ok(&chunk[..usable])
    }

    /// Marks bytes that [`TarReader::fill`] gave as read.
    pub(crate) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.offset += count as u64;
        self.data -= count as u64;
    }

    /// One header block; None at the end of the archive.
    fn header(&mut self) -> Result<Option<[u8; 512]>, TarError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            let chunk = self.input.fill_buf().map_err(TarError::Read)?;
            if chunk.is_empty() {
                break;
            }
            let step = chunk.len().min(block.len() - filled);
            block[filled..filled + step].copy_from_slice(&chunk[..step]);
            self.input.consume(step);
            filled += step;
        }
        self.offset += filled as u64;
        if filled == 0 {
            self.end = Some(End::Unmarked);
            return Ok(None);
        }
        if filled < block.len() {
            return Err(TarError::Truncated(format!("the header after {}", self.name)));
        }
        if block.iter().all(|byte| *byte == 0) {
            self.end = Some(End::Marked);
            return Ok(None);
        }
        if !RawHeader(Header::from_byte_slice(&block)).checksum_holds() {
            return Err(TarError::Checksum(self.offset - BLOCK));
        }
        Ok(Some(block))
    }

    /// The body of an extension header: bounded, then read whole.
    fn extension(&mut self, raw: &RawHeader<'_>, at: u64, limit: u64) -> Result<Vec<u8>, TarError> {
        let claimed = raw.size().ok_or(TarError::Checksum(at))?;
        if claimed > limit {
            return Err(TarError::TooLong { offset: at, claimed, limit });
        }
        self.start(claimed);
        "an extended header".clone_into(&mut self.name);
        let mut body = Vec::with_capacity(claimed as usize);
        while self.data > 0 {
            let chunk = self.fill()?;
            let count = chunk.len();
            body.extend_from_slice(chunk);
            self.consume(count);
        }
        Ok(body)
    }

    fn start(&mut self, size: u64) {
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
    }

    /// Skips what fills the last block of an entry; false when the input ends there. umoci writes
    /// such layers, and Go's archive/tar takes that for an end without a marker.
    fn skip_padding(&mut self) -> Result<bool, TarError> {
        let padding = std::mem::take(&mut self.padding);
        match self.skip(padding) {
            Ok(()) => Ok(true),
            Err(TarError::Truncated(_)) => {
                self.end = Some(End::Unmarked);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn skip(&mut self, count: u64) -> Result<(), TarError> {
        self.input.skip(count).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated(std::mem::take(&mut self.name)),
            _ => TarError::Read(error),
        })?;
        self.offset += count;
        Ok(())
    }

    /// Puts an entry together from its header and the extensions before it.
    fn entry(
        &mut self,
        raw: &RawHeader<'_>,
        mut pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let sparse_name = pax.sparse.name.take();
        let path = sparse_name
            .or(pax.path.take())
            .or(long_name.map(|name| field(&name).to_vec()))
            .unwrap_or_else(|| raw.path());
        let link = pax
            .link
            .take()
            .or(long_link.map(|name| field(&name).to_vec()))
            .unwrap_or_else(|| raw.link());
        self.name = show(&path);
        let kind = self.kind(raw, &path)?;
        let number = |field| TarError::Number { path: show(&path), field };
        let narrow = |claimed: Option<u64>, field| {
            claimed.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| number(field))
        };
        let stored = match kind {
            EntryKind::File => {
                pax.size.or(raw.size()).filter(|size| *size <= i64::MAX as u64 - 511)
            }
            _ => Some(0),
        };
        let stored = stored.ok_or_else(|| number("size"))?;
        let device = match kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                raw.device().ok_or_else(|| number("device number"))?
            }
            _ => (0, 0),
        };
        let mut entry = Entry {
            kind,
            mode: raw.mode().ok_or_else(|| number("mode"))?,
            uid: narrow(pax.uid.or(raw.uid()), "user id")?,
            gid: narrow(pax.gid.or(raw.gid()), "group id")?,
            mtime: pax.mtime.or(raw.mtime()).ok_or_else(|| number("mtime"))?,
            device,
            size: stored,
            stored,
            sparse: None,
            xattrs: std::mem::take(&mut pax.xattrs),
            path,
            link,
        };
        self.start(stored);
        if kind == EntryKind::File {
            self.sparse(raw, &pax, &mut entry)?;
        }
        Ok(entry)
    }

    fn kind(&self, raw: &RawHeader<'_>, path: &[u8]) -> Result<EntryKind, TarError> {
        Ok(match raw.type_byte() {
            // A regular file whose name ends in a slash is how V7 tar wrote a directory.
            b'0' | 0 | b'7' if path.ends_with(b"/") && raw.size() == Some(0) => {
                EntryKind::Directory
            }
            b'0' | 0 | b'7' if path.ends_with(b"/") => {
                return Err(TarError::DirectoryWithData(show(path)));
            }
            b'0' | 0 | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            kind => {
                return Err(TarError::UnknownType { path: show(path), kind: char::from(kind) });
            }
        })
    }

    /// Reads the sparse map, wherever this file's format keeps it.
    fn sparse(
        &mut self,
        raw: &RawHeader<'_>,
        pax: &Pax,
        entry: &mut Entry,
    ) -> Result<(), TarError> {
        let malformed = |reason| TarError::Sparse { path: show(&entry.path), reason };
        let map = if raw.type_byte() == b'S' {
            let (mut map, more) = sparse::old_gnu(raw).map_err(malformed)?;
            let mut extended = more;
            while extended {
                // These blocks stand between header and data and count for neither.
                let block = self.header_extension()?;
                extended = sparse::old_gnu_more(&mut map, &block)
                    .map_err(|reason| TarError::Sparse { path: show(&entry.path), reason })?;
            }
            map
        } else if pax.sparse.is_version_1() {
            let before = self.data;
            let map = sparse::pax_1(self, &pax.sparse, &entry.path)?;
            entry.stored -= before - self.data;
            map
        } else if let Some(map) = sparse::pax_0(&pax.sparse).map_err(malformed)? {
            map
        } else {
            return Ok(());
        };
        map.check(entry.stored)
            .map_err(|reason| TarError::Sparse { path: show(&entry.path), reason })?;
        entry.size = map.size;
        entry.sparse = Some(map);
        Ok(())
    }

    fn header_extension(&mut self) -> Result<[u8; 512], TarError> {
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            let chunk = self.input.fill_buf().map_err(TarError::Read)?;
            if chunk.is_empty() {
                return Err(TarError::Truncated(std::mem::take(&mut self.name)));
            }
            let step = chunk.len().min(block.len() - filled);
            block[filled..filled + step].copy_from_slice(&chunk[..step]);
            self.input.consume(step);
            filled += step;
        }
        self.offset += BLOCK;
        Ok(block)
    }
}

/// A path from an archive as an error message shows it: bounded, control characters escaped.
pub(crate) fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(&path[..path.len().min(400)]);
    let mut shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if path.len() > 200 {
        shown.push('…');
    }
    shown
}
