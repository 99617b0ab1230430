//! The record of an image: its configuration, and what its block image must be. Called by publish,
//! which writes it, and by the queries.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use boxwood_types::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{ImageStore, failed};
use crate::error::ImageError;
use crate::limits;

/// The version of the store's files; a newer one is refused, not guessed at.
pub(super) const VERSION: u32 = 1;

/// The file as it is on the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: Digest,
    /// The configuration document, byte by byte: its digest is the ID.
    pub(crate) config: String,
    pub(crate) block: BlockRecord,
}

/// What a block image must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockRecord {
    /// The digest of its content, see [`crate::erofs::content_digest`].
    pub(crate) digest: Digest,
    /// Bytes up to the end of its file system.
    pub(crate) content_bytes: u64,
    /// Files and directories.
    pub(crate) inodes: u64,
}

impl ImageStore {
    /// The record of an image; None when there is no such image.
    pub(crate) fn record(&self, id: &Digest) -> Result<Option<Record>, ImageError> {
        let path = self.record_path(id);
        let Some(bytes) = read_bounded(&path)? else { return Ok(None) };
        let record: Record = crate::json::parse(&bytes)
            .map_err(|source| ImageError::StoreJson { path: path.clone(), source })?;
        let found = Digest::from_bytes(&Sha256::digest(record.config.as_bytes()).into());
        if record.version != VERSION || record.id != *id || found != *id {
            let reason = "its record is not its own".to_owned();
            return Err(ImageError::Damaged { id: id.short().to_owned(), reason });
        }
        Ok(Some(record))
    }
}

/// A small file of the store; None when it does not exist.
pub(super) fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, ImageError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(limits::STORE_FILE_BYTES).read_to_end(&mut bytes);
    read.map_err(failed("read", path))?;
    Ok(Some(bytes))
}
