//! The names of the store's images. Called by publish, remove and the queries.

use std::collections::BTreeMap;

use boxwood_types::{Digest, ImageName};
use serde::{Deserialize, Serialize};

use super::record::{VERSION, read_bounded};
use super::{ImageStore, StoreLock};
use crate::error::ImageError;

pub(super) type Tags = BTreeMap<ImageName, Digest>;

/// The file as it is on the disk.
#[derive(Serialize, Deserialize)]
struct TagsFile {
    version: u32,
    tags: Tags,
}

impl ImageStore {
    pub(super) fn tags(&self) -> Result<Tags, ImageError> {
        let path = self.tags_path();
        let Some(bytes) = read_bounded(&path)? else { return Ok(Tags::new()) };
        let file: TagsFile = crate::json::parse(&bytes)
            .map_err(|source| ImageError::StoreJson { path: path.clone(), source })?;
        if file.version != VERSION {
            let source = serde::de::Error::custom(format!("its version is {}", file.version));
            return Err(ImageError::StoreJson { path, source });
        }
        Ok(file.tags)
    }

    /// Changes the names, under the store's lock.
    pub(super) fn change_tags(
        &self,
        lock: &StoreLock,
        change: impl FnOnce(&mut Tags),
    ) -> Result<(), ImageError> {
        let path = self.tags_path();
        let before = self.tags()?;
        let mut tags = before.clone();
        change(&mut tags);
        if tags == before {
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(&TagsFile { version: VERSION, tags })
            .map_err(|source| ImageError::StoreJson { path: path.clone(), source })?;
        self.write_small(lock, &path, &bytes)
    }
}
