//! Builds block images: layers in, a finished temporary out. Called by load, import and the default
//! image.

use std::io::{self, BufRead, Read};

use boxwood_types::Digest;

use super::record::BlockRecord;
use super::temp::Temp;
use super::{ImageStore, failed};
use crate::erofs::{self, DataWriter};
use crate::error::ImageError;
use crate::layer::{self, Ending, LayerError};
use crate::limits::Limits;
use crate::stream::{Digests, Stream, StreamError, with_stream};
use crate::tar::TarInput;
use crate::tree::Tree;

/// How often a long layer reports, in bytes.
const REPORT: u64 = 4 << 20;

/// A block image in the making.
#[derive(Debug)]
pub(crate) struct Build {
    temp: Temp,
    pub(crate) tree: Tree,
    pub(crate) data: DataWriter,
    limits: Limits,
    /// Plain bytes of layers that may still come.
    left: u64,
}

/// What is known of a layer to merge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merged<'a> {
    /// Which one, for messages: "2 of 3 (path)".
    pub(crate) label: &'a str,
    pub(crate) ending: Ending,
    /// The digest of the stored bytes and of the plain ones, when something says them.
    pub(crate) stored: Option<&'a Digest>,
    pub(crate) diff_id: Option<&'a Digest>,
}

impl ImageStore {
    /// Starts an image: a temporary file, and a tree with nothing but its root.
    pub(crate) fn build(&self) -> Result<Build, ImageError> {
        let temp = self.temp()?;
        let limits = self.limits();
        let file = temp.file().try_clone().map_err(failed("open", temp.path()))?;
        let data = DataWriter::new(file, temp.path(), limits.disk);
        Ok(Build { tree: Tree::new(limits), data, left: limits.disk, limits, temp })
    }
}

impl Build {
    /// Merges a layer and checks its digests. `report` is told how many plain bytes have passed.
    pub(crate) fn merge(
        &mut self,
        input: impl Read + Send,
        layer: Merged<'_>,
        report: &mut dyn FnMut(u64),
    ) -> Result<Digests, ImageError> {
        let (tree, data) = (&mut self.tree, &mut self.data);
        let (merged, digests) = with_stream(input, self.left, |stream| {
            let mut counted = Counted { stream, bytes: 0, reported: 0, report };
            let merged = layer::merge(&mut counted, layer.ending, tree, data);
            (counted.report)(counted.bytes);
            if merged.as_ref().is_err_and(|error| !error.may_be_damage()) {
                stream.abandon();
            }
            merged
        });
        let label = || layer.label.to_owned();
        let refused = |source: LayerError| ImageError::Layer { layer: label(), source };
        let digests = match (digests, merged) {
            (Ok(digests), Ok(())) => digests,
            (Ok(digests), Err(error)) => {
                // Damage explains a malformed archive; the other way round it does not.
                check(layer, &digests)?;
                return Err(refused(error));
            }
            (Err(StreamError::Read(source)), _) => {
                return Err(ImageError::LayerRead { layer: label(), source });
            }
            (Err(StreamError::TooBig), _) => {
                return Err(ImageError::LayerTooBig { layer: label(), limit: self.limits.disk });
            }
            (Err(StreamError::Abandoned), Err(error)) => return Err(refused(error)),
            (Err(StreamError::Abandoned), Ok(())) => {
                let source = io::ErrorKind::Interrupted.into();
                return Err(ImageError::LayerRead { layer: label(), source });
            }
        };
        check(layer, &digests)?;
        self.left -= digests.plain_bytes;
        Ok(digests)
    }

    /// Writes the metadata, takes the content's digest and syncs the file.
    pub(crate) fn finish(mut self) -> Result<(Temp, BlockRecord), ImageError> {
        let finished = erofs::finish(&mut self.tree, self.data).map_err(ImageError::Write)?;
        let temp = self.temp;
        let file = temp.file();
        let digest = erofs::content_digest(file, finished.content);
        let digest = digest.map_err(failed("read", temp.path()))?;
        file.sync_all().map_err(failed("sync", temp.path()))?;
        let (content_bytes, inodes) = (finished.content, finished.inodes);
        Ok((temp, BlockRecord { digest, content_bytes, inodes }))
    }
}

fn check(layer: Merged<'_>, digests: &Digests) -> Result<(), ImageError> {
    let pairs =
        [("digest", layer.stored, &digests.stored), ("diff_id", layer.diff_id, &digests.plain)];
    for (what, expected, found) in pairs {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            let (expected, found) = (expected.clone(), found.clone());
            return Err(ImageError::LayerDigest {
                layer: layer.label.into(),
                what,
                expected,
                found,
            });
        }
    }
    Ok(())
}

/// A stream that reports how much of it was read.
struct Counted<'a> {
    stream: &'a mut Stream,
    bytes: u64,
    reported: u64,
    report: &'a mut dyn FnMut(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes - self.reported >= REPORT {
            self.reported = self.bytes;
            (self.report)(self.bytes);
        }
        self.stream.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.bytes += count as u64;
        self.stream.consume(count);
    }
}

impl TarInput for Counted<'_> {}
