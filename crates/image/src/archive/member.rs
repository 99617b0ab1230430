//! The members of a tar archive, indexed by offset without reading their data. Called by the
//! loader, for an archive in a seekable file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{ArchiveError, Blobs};
use crate::limits;
use crate::region::Region;
use crate::tar::{End, Entry, EntryKind, TarError, TarInput, TarReader, show};

#[derive(Clone, Debug)]
enum Member {
    File {
        offset: u64,
        len: u64,
    },
    /// The path of another member.
    Link(String),
}

/// An indexed archive.
#[derive(Debug)]
pub(crate) struct Members {
    file: Arc<File>,
    members: HashMap<String, Member>,
}

impl Members {
    /// Reads all headers. The archive must be whole: each member inside the file, and an end
    /// marker.
    pub(crate) fn index(file: File) -> Result<Self, ArchiveError> {
        let file = Arc::new(file);
        let len = file.metadata().map_err(|error| ArchiveError::Tar(TarError::Read(error)))?.len();
        let mut tar = TarReader::new(Headers { file: &file, at: 0, len, buffer: Vec::new() });
        let mut members = HashMap::new();
        while let Some(entry) = tar.next().map_err(ArchiveError::Tar)? {
            let Some((path, member)) = member(&entry, tar.offset())? else { continue };
            let bad = |reason| ArchiveError::Member { path: show(&entry.path), reason };
            if members.len() >= limits::MEMBERS {
                return Err(bad("there are too many members before it"));
            }
            if members.insert(path, member).is_some() {
                return Err(bad("it stands twice in the archive"));
            }
        }
        match tar.end() {
            Some(End::Marked) => Ok(Members { file, members }),
            _ if members.is_empty() => Err(ArchiveError::UnknownForm),
            _ => Err(ArchiveError::Tar(TarError::Truncated("its end marker".into()))),
        }
    }
}

impl Blobs for Members {
    fn find(&self, path: &str) -> Result<Option<Region>, ArchiveError> {
        let mut at = path;
        // Old versions of docker save write a layer once and link to it from where it recurs; a
        // link to a link is not theirs.
        for _ in 0..2 {
            match self.members.get(at) {
                Some(Member::File { offset, len }) => {
                    return Ok(Some(Region::new(Arc::clone(&self.file), *offset, *len)));
                }
                Some(Member::Link(target)) => at = target,
                None => return Ok(None),
            }
        }
        Err(ArchiveError::Member { path: at.to_owned(), reason: "it is a link to a link" })
    }
}

/// The normalized path of a member and what it is; None for directories.
fn member(entry: &Entry, offset: u64) -> Result<Option<(String, Member)>, ArchiveError> {
    let bad = |reason| ArchiveError::Member { path: show(&entry.path), reason };
    let path = std::str::from_utf8(&entry.path).map_err(|_| bad("its name is not UTF-8"))?;
    if path.len() > limits::PATH_LEN {
        return Err(bad("its path is too long"));
    }
    let path = normalize(&[], path).map_err(bad)?;
    let member = match entry.kind {
        EntryKind::Directory => return Ok(None),
        EntryKind::File if entry.sparse.is_none() => Member::File { offset, len: entry.size },
        EntryKind::File => return Err(bad("it is a sparse file")),
        EntryKind::Symlink if path.last() == Some(&"layer.tar") => {
            let target = std::str::from_utf8(&entry.link).map_err(|_| bad("its target is bad"))?;
            let target = normalize(&path[..path.len() - 1], target);
            Member::Link(target.map_err(|_| bad("it is a link out of the archive"))?.join("/"))
        }
        EntryKind::Symlink => return Err(bad("it is a symbolic link")),
        EntryKind::HardLink => return Err(bad("it is a hard link")),
        _ => return Err(bad("it is a device or a pipe")),
    };
    Ok(Some((path.join("/"), member)))
}

/// The names of a path below `base`, without `.` and `..`. Only a link's target may have `..`, and
/// only inside the archive: for a member's own path `base` is empty.
fn normalize<'a>(base: &[&'a str], path: &'a str) -> Result<Vec<&'a str>, &'static str> {
    if path.starts_with('/') {
        return Err("its path is absolute");
    }
    if path.contains('\0') {
        return Err("its path has a NUL in it");
    }
    let mut names = base.to_vec();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if base.is_empty() => return Err("its path has a '..' in it"),
            ".." => drop(names.pop().ok_or("its path leads out of the archive")?),
            _ => names.push(name),
        }
    }
    if names.is_empty() && !path.trim_matches(['.', '/']).is_empty() {
        return Err("its path is empty");
    }
    Ok(names)
}

/// Reads headers from a file and seeks over the data between them.
struct Headers<'a> {
    file: &'a File,
    at: u64,
    len: u64,
    buffer: Vec<u8>,
}

/// As much as is read at once: a header and what often follows it.
const AHEAD: usize = 4096;

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Headers<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffer.is_empty() {
            let mut buffer = vec![0; AHEAD];
            let read = self.file.read_at(&mut buffer, self.at)?;
            buffer.truncate(read);
            self.buffer = buffer;
        }
        Ok(&self.buffer)
    }

    fn consume(&mut self, count: usize) {
        self.at += count as u64;
        self.buffer.drain(..count);
    }
}

impl TarInput for Headers<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        if count > self.len.saturating_sub(self.at) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let buffered = self.buffer.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        self.buffer.drain(..buffered);
        self.at += count;
        if buffered as u64 != count {
            self.buffer.clear();
        }
        Ok(())
    }
}
