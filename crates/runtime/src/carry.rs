//! `snapshot export` and `snapshot import`: a snapshot as a stream.

use std::io::{self, BufRead, BufReader, Read, Write};

use boxwood_state::{SNAPSHOT_INFO, Snapshot, StateError};
use boxwood_types::{BoxId, BoxName};
use boxwood_vmm::snapshot::{export, import, is_foreign};

use crate::{Error, Runtime};

/// The beginning of what zstd has compressed (RFC 8878, section 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The fastest that finds most of what repeats.
const LEVEL: i32 = 1;

/// A snapshot that came as a stream.
#[derive(Debug)]
pub struct Imported {
    /// It.
    pub snapshot: Snapshot,
    /// Why only its disk is of use on this host, if so.
    pub foreign: Option<String>,
}

impl Runtime {
    /// Writes a snapshot as a compressed stream. Blocks.
    ///
    /// # Errors
    /// When it is damaged, or something can't be read or written.
    pub fn export_snapshot(&self, snapshot: &Snapshot, out: &mut dyn Write) -> Result<(), Error> {
        let failed = |source| Error::Io {
            action: "export the snapshot in",
            path: snapshot.directory.clone(),
            source,
        };
        let mut out = zstd::Encoder::new(out, LEVEL).map_err(failed)?;
        out.include_checksum(true).map_err(failed)?;
        export(&snapshot.directory, &mut out)?;
        out.finish().and_then(|out| out.flush()).map_err(failed)
    }

    /// Keeps a snapshot that comes as such a stream, compressed or not, under its name or another one.
    /// Nobody sees it before all of it was checked. Blocks.
    ///
    /// # Errors
    /// When it is none, its image is not there, or its name is taken; then nothing stays behind.
    pub fn import_snapshot(
        &self,
        input: &mut dyn Read,
        name: Option<&BoxName>,
    ) -> Result<Imported, Error> {
        let taken = |name: &BoxName| match self.home.has_snapshot(name) {
            true => Err(Error::from(StateError::SnapshotTaken(name.to_string()))),
            false => Ok(()),
        };
        name.map_or(Ok(()), taken)?;
        self.home.sweep_snapshots()?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let fresh = self.home.new_snapshot(&BoxId::from_random(random))?;
        let none = |reason: &str| boxwood_vmm::Error::NoArchive { reason: reason.to_owned() };
        let mut input = BufReader::new(input);
        let read = |error: io::Error| none(&error.to_string());
        let compressed = input.fill_buf().map_err(read)?.starts_with(&ZSTD);
        let shape = match compressed {
            true => {
                let mut plain = zstd::Decoder::with_buffer(input).map_err(read)?;
                import(&mut plain, fresh.directory(), &[SNAPSHOT_INFO])?
            }
            false => import(&mut input, fresh.directory(), &[SNAPSHOT_INFO])?,
        };
        let info = fresh.info()?.ok_or_else(|| none("it does not say what it is"))?;
        if shape.is_some_and(|shape| shape != info.source.shape) {
            return Err(none("it does not say what its memory is").into());
        }
        if info.source.image.name.chars().any(char::is_control) {
            return Err(none("the name of its image is none").into());
        }
        self.image_of(&info)?;
        let name = name.unwrap_or(&info.name);
        taken(name)?;
        let foreign = is_foreign(fresh.directory());
        self.home.publish_snapshot(fresh, name)?;
        Ok(Imported { snapshot: self.home.snapshot(name.as_str())?, foreign })
    }
}
