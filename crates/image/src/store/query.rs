//! Finding images. Called by the runtime before a start, and for lists.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use boxwood_types::{Digest, ImageName};

use super::record::Record;
use super::{ImageStore, failed};
use crate::clock;
use crate::config::{Document, ImageConfig};
use crate::error::ImageError;
use crate::limits::IMAGE_DISK_BYTES;

/// An image of the store, ready to be used.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) id: Digest,
    pub(super) names: Vec<ImageName>,
    pub(super) config: ImageConfig,
    pub(super) raw: String,
    pub(super) created: Option<SystemTime>,
    pub(super) block: PathBuf,
    pub(super) block_digest: Digest,
    pub(super) content_bytes: u64,
    pub(super) disk_bytes: u64,
}

/// An image in a list.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// Its ID.
    pub id: Digest,
    /// Its names, sorted.
    pub names: Vec<ImageName>,
    /// When it was made; None when its configuration does not say.
    pub created: Option<SystemTime>,
    /// Bytes of its file system, with what later layers replaced.
    pub content_bytes: u64,
    /// Bytes it takes on the host's disk.
    pub disk_bytes: u64,
    /// What is wrong with it, when it can't be used.
    pub damaged: Option<String>,
}

impl Image {
    /// The image's ID: the digest of its configuration document.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// Its names in the store, sorted.
    pub fn names(&self) -> &[ImageName] {
        &self.names
    }

    /// How to run it.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The configuration document, byte by byte.
    pub fn config_json(&self) -> &str {
        &self.raw
    }

    /// When it was made; None when the document does not say.
    pub fn created(&self) -> Option<SystemTime> {
        self.created
    }

    /// The architecture, as Go names it. Others than this are refused when an image is loaded.
    pub fn architecture(&self) -> &'static str {
        "amd64"
    }

    /// Bytes of its file system.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Bytes it takes on the host's disk.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// The digest of the block image's content.
    pub fn block_digest(&self) -> &Digest {
        &self.block_digest
    }

    /// The path of the block image: EROFS, read-only, [`IMAGE_DISK_BYTES`] long, sparse.
    pub fn block(&self) -> &Path {
        &self.block
    }

    /// Opens the block image for reading. As long as it is open, the image can be removed from the
    /// store without harm to its user.
    pub fn open_block(&self) -> Result<File, ImageError> {
        let file = File::open(&self.block).map_err(failed("open", &self.block))?;
        let len = file.metadata().map_err(failed("look at", &self.block))?.len();
        check_len(&self.id, len).map(|()| file)
    }
}

impl ImageStore {
    /// The image a user means: by name, by ID, or by the start of an ID that no other has.
    ///
    /// `busybox` is made from the host's own busybox when it is not there.
    pub fn resolve(&self, reference: &str) -> Result<Image, ImageError> {
        match self.find(reference) {
            Err(ImageError::NotFound(_)) if crate::builtin::is_default(reference) => {
                self.make_default()?;
                self.find(reference)
            }
            found => found,
        }
    }

    /// All images, the newest first.
    pub fn list(&self) -> Result<Vec<ImageSummary>, ImageError> {
        self.sweep();
        let tags = self.tags()?;
        let mut list = Vec::new();
        for id in self.ids()? {
            let names = tags.iter().filter(|(_, tagged)| **tagged == id);
            let names = names.map(|(name, _)| name.clone()).collect();
            list.push(self.summary(id, names)?);
        }
        list.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(list)
    }

    /// Whether the store has this image, undamaged as far as a look tells.
    pub(crate) fn present(&self, id: &Digest) -> Result<bool, ImageError> {
        match self.image(id, Vec::new()) {
            Ok(image) => Ok(image.is_some()),
            Err(ImageError::Damaged { .. } | ImageError::StoreJson { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn find(&self, reference: &str) -> Result<Image, ImageError> {
        let tags = self.tags()?;
        let id = self.identify(reference, &tags)?;
        let names = tags.into_iter().filter(|(_, tagged)| *tagged == id);
        let image = self.image(&id, names.map(|(name, _)| name).collect())?;
        image.ok_or_else(|| ImageError::NotFound(brief(reference)))
    }

    /// The ID a reference stands for, in Docker's order: a digest, a name, the start of an ID.
    pub(super) fn identify(
        &self,
        reference: &str,
        tags: &super::tags::Tags,
    ) -> Result<Digest, ImageError> {
        let (hex, explicit) = match reference.strip_prefix("sha256:") {
            Some(hex) => (hex, true),
            None => (reference, false),
        };
        let name = if explicit { None } else { Some(reference.parse::<ImageName>()) };
        if let Some(Ok(name)) = &name
            && let Some(id) = tags.get(name)
        {
            return Ok(id.clone());
        }
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if (1..=64).contains(&hex.len()) && hex.bytes().all(digits) {
            let mut ids = self.ids()?;
            ids.retain(|id| id.hex().starts_with(hex));
            match ids.len() {
                0 => {}
                1 => return Ok(ids.remove(0)),
                count => return Err(ImageError::Ambiguous { prefix: hex.to_owned(), count }),
            }
        }
        match name {
            Some(Err(source)) => Err(ImageError::BadReference(brief(reference), source)),
            _ => Err(ImageError::NotFound(brief(reference))),
        }
    }

    /// The IDs of all images.
    pub(super) fn ids(&self) -> Result<Vec<Digest>, ImageError> {
        let dir = self.dir.join("records");
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(failed("list", &dir))? {
            let name = entry.map_err(failed("list", &dir))?.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(".json"));
            ids.extend(hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// The image of this ID; None when there is none. Its block image is looked at, not read.
    fn image(&self, id: &Digest, names: Vec<ImageName>) -> Result<Option<Image>, ImageError> {
        let Some(record) = self.record(id)? else { return Ok(None) };
        let block = self.block_path(id);
        let metadata = match std::fs::metadata(&block) {
            Ok(metadata) => metadata,
            // A removal takes the record first: look again before crying damage.
            Err(_) if self.record(id)?.is_none() => return Ok(None),
            Err(error) => return Err(damaged(id, format!("{} is gone: {error}", block.display()))),
        };
        check_len(id, metadata.len())?;
        let Record { config: raw, block: recorded, .. } = record;
        let document = Document::parse(raw.as_bytes()).map_err(ImageError::Config)?;
        let created = document.created.as_deref().and_then(clock::parse);
        Ok(Some(Image {
            id: id.clone(),
            names,
            config: document.config,
            raw,
            created,
            block,
            block_digest: recorded.digest,
            content_bytes: recorded.content_bytes,
            disk_bytes: metadata.blocks() * 512,
        }))
    }

    fn summary(&self, id: Digest, names: Vec<ImageName>) -> Result<ImageSummary, ImageError> {
        let empty = ImageSummary {
            id: id.clone(),
            names: names.clone(),
            created: None,
            content_bytes: 0,
            disk_bytes: 0,
            damaged: None,
        };
        match self.image(&id, names) {
            Ok(Some(image)) => Ok(ImageSummary {
                created: image.created,
                content_bytes: image.content_bytes,
                disk_bytes: image.disk_bytes,
                ..empty
            }),
            Ok(None) => Ok(ImageSummary { damaged: Some("it was just removed".into()), ..empty }),
            Err(ImageError::Store { doing, path, source }) => {
                Err(ImageError::Store { doing, path, source })
            }
            Err(error) => Ok(ImageSummary { damaged: Some(error.to_string()), ..empty }),
        }
    }
}

fn check_len(id: &Digest, len: u64) -> Result<(), ImageError> {
    if len == IMAGE_DISK_BYTES {
        return Ok(());
    }
    Err(damaged(id, format!("its block image has {len} bytes, not {IMAGE_DISK_BYTES}")))
}

fn damaged(id: &Digest, reason: String) -> ImageError {
    ImageError::Damaged { id: id.short().to_owned(), reason }
}

fn brief(reference: &str) -> String {
    reference.chars().take(300).flat_map(char::escape_debug).collect()
}
