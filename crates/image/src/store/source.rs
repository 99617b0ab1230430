//! Opening what the user gave: a file, a directory or a stream; compressed as a whole or not.
//! Called by load and import.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use super::{ImageStore, Progress, failed};
use crate::archive::{ArchiveError, Blobs, Layout, Members};
use crate::compress::{Compression, MAGIC};
use crate::error::ImageError;
use crate::limits::SPOOL_BYTES;
use crate::region::Region;

/// Where images come from.
pub enum Source {
    /// A Docker or OCI archive, or a directory with an OCI layout.
    Path(PathBuf),
    /// An archive as a stream, such as standard input.
    Stream(Box<dyn Read + Send>),
    /// An archive that a client of a service sends.
    Upload(Box<dyn Read + Send>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Source::Stream(_) => f.write_str("Stream"),
            Source::Upload(_) => f.write_str("Upload"),
        }
    }
}

/// An opened input.
pub(crate) enum Opened {
    /// Plain bytes in a file.
    Seekable(File),
    /// Bytes that can be read once, with their first ones.
    Stream(Box<dyn Read + Send>, Compression),
    Directory,
}

/// The first bytes of a stream, and what they say.
fn sniff(mut input: Box<dyn Read + Send>) -> io::Result<(Box<dyn Read + Send>, Compression)> {
    let mut start = Vec::with_capacity(MAGIC);
    input.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    Ok((Box::new(Cursor::new(start).chain(input)), compression))
}

/// Opens a path; a compressed file, a pipe or a device is a stream.
pub(crate) fn open_file(path: &Path) -> io::Result<Opened> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(Opened::Directory);
    }
    if metadata.is_file() {
        let start = Region::new(file.try_clone()?.into(), 0, metadata.len()).start(MAGIC)?;
        if Compression::of(&start) == Compression::None {
            return Ok(Opened::Seekable(file));
        }
    }
    let (input, compression) = sniff(Box::new(file))?;
    Ok(Opened::Stream(input, compression))
}

/// What error messages call an input.
pub(crate) fn input_name(source: &Source) -> String {
    match source {
        Source::Path(path) => path.display().to_string(),
        Source::Stream(_) => "standard input".to_owned(),
        Source::Upload(_) => "the body".to_owned(),
    }
}

/// The name of a file or directory without its extensions: what a bare tag in it is a tag of.
fn stem(path: &Path) -> Option<String> {
    let name = path.canonicalize().ok()?.file_name()?.to_str()?.to_ascii_lowercase();
    let known = [".gz", ".tgz", ".zst", ".tar", ".oci"];
    let mut stem = &*name;
    while let Some(shorter) = known.iter().find_map(|extension| stem.strip_suffix(extension)) {
        stem = shorter;
    }
    Some(stem.to_owned())
}

impl ImageStore {
    /// The blobs of a source, and the stem of its name.
    pub(super) fn blobs(
        &self,
        source: Source,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Box<dyn Blobs>, Option<String>), ImageError> {
        let input = input_name(&source);
        let unreadable = |source| ImageError::Input { input: input.clone(), source };
        let refused = |source| ImageError::Archive { input: input.clone(), source };
        let (opened, stem) = match source {
            Source::Path(path) => {
                let opened = open_file(&path).map_err(unreadable)?;
                if matches!(opened, Opened::Directory) {
                    let layout = Layout::open(&path).map_err(unreadable)?;
                    return Ok((Box::new(layout), stem(&path)));
                }
                (opened, stem(&path))
            }
            Source::Stream(stream) | Source::Upload(stream) => {
                let (input, compression) = sniff(stream).map_err(unreadable)?;
                (Opened::Stream(input, compression), None)
            }
        };
        let file = match opened {
            Opened::Seekable(file) => file,
            Opened::Stream(stream, compression) => {
                let stream = compression.decoder(BufReader::with_capacity(256 << 10, stream));
                let mut stream = stream.map_err(unreadable)?;
                self.spool(&mut stream, Spool { input: &input, limit: SPOOL_BYTES }, progress)?
            }
            Opened::Directory => return Err(refused(ArchiveError::UnknownForm)),
        };
        let members = Members::index(file).map_err(refused)?;
        Ok((Box::new(members), stem))
    }

    /// Keeps a stream in a file without a name: archives have their table of contents at the end.
    pub(crate) fn spool(
        &self,
        stream: &mut dyn Read,
        spool: Spool<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<File, ImageError> {
        let temp = self.temp()?;
        let mut file = temp.file().try_clone().map_err(failed("open", temp.path()))?;
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            let read = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(ImageError::Input { input: spool.input.to_owned(), source });
                }
            };
            bytes += read as u64;
            if bytes > spool.limit {
                let (input, limit) = (spool.input.to_owned(), spool.limit);
                return Err(ImageError::InputTooBig { input, limit });
            }
            io::Write::write_all(&mut file, &buffer[..read])
                .map_err(failed("write", temp.path()))?;
            progress(Progress::Reading { bytes });
        }
        // The temporary's name goes when it is dropped here; the file stays while it is open.
        Ok(file)
    }
}

/// How to spool: what messages call the input, and how much of it is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spool<'a> {
    pub(crate) input: &'a str,
    pub(crate) limit: u64,
}
