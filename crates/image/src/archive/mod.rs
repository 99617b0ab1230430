//! What an archive or layout holds: which images, under which names, made of which layers. Called
//! by the store's loader. Nothing is unpacked here; layers are found, not read.
//!
//! Two forms (`docker`, `oci`) are read from two containers (`member`: a tar file whose members
//! are indexed by offset; `layout`: a directory).

mod docker;
mod layout;
mod member;
mod oci;

use boxwood_types::{Digest, ImageName};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::config::{ConfigError, Document};
use crate::limits;
use crate::region::Region;
use crate::tar::TarError;

pub(crate) use layout::Layout;
pub(crate) use member::Members;

/// Why an archive or layout can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no tar archive, or a damaged one.
    #[error("it is not a readable tar archive")]
    Tar(#[source] TarError),
    /// A read failed.
    #[error("'{path}' can't be read")]
    Read {
        /// The member or file.
        path: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Neither form.
    #[error(
        "it is neither a Docker archive (no manifest.json) nor an OCI image (no index.json); a root \
         file system is brought in with 'boxwood import'"
    )]
    UnknownForm,
    /// The form of Docker before 1.10.
    #[error("it was saved by Docker before version 1.10; load it there and save it anew")]
    OldDocker,
    /// A member that must not be there.
    #[error("bad member '{path}': {reason}")]
    Member {
        /// The path it claims.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A member that must be there.
    #[error("'{0}' is missing in it")]
    Missing(String),
    /// A document above the limit.
    #[error("'{path}' has {size} bytes; {limit} is the limit")]
    TooLarge {
        /// The member.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A malformed document.
    #[error("'{path}' is malformed")]
    Json {
        /// The member.
        path: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A document that says what can't be.
    #[error("'{path}' is malformed: {reason}")]
    Value {
        /// The member.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Content that is not what its descriptor says.
    #[error("'{path}' is damaged: its digest is {found}, not {expected}")]
    Digest {
        /// The member.
        path: String,
        /// What the descriptor says.
        expected: Digest,
        /// What was found.
        found: Digest,
    },
    /// A blob whose size is not what its descriptor says.
    #[error("'{path}' is damaged: it has {found} bytes, not {expected}")]
    Size {
        /// The member.
        path: String,
        /// What the descriptor says.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// A media type that is not known.
    #[error("'{path}' is of the unknown media type '{media_type}'")]
    MediaType {
        /// The member.
        path: String,
        /// Its type.
        media_type: String,
    },
    /// No image for this machine.
    #[error("no image in it is for linux/amd64, only for {0}")]
    Platforms(String),
    /// An unusable configuration.
    #[error("'{path}' can't be used")]
    Config {
        /// The member.
        path: String,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// One name for two images.
    #[error("it gives the name '{0}' to two images")]
    NameTwice(String),
}

/// A layer that was found.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlan {
    /// Its path in the archive, for messages.
    pub(crate) path: String,
    pub(crate) region: Region,
    /// The digest of its stored bytes, when something says it.
    pub(crate) stored: Option<Digest>,
    /// The digest of its plain bytes.
    pub(crate) diff_id: Digest,
}

/// An image that was found.
#[derive(Clone, Debug)]
pub(crate) struct ImagePlan {
    /// The digest of the configuration.
    pub(crate) id: Digest,
    /// The configuration, byte by byte.
    pub(crate) raw: String,
    pub(crate) names: Vec<ImageName>,
    pub(crate) layers: Vec<LayerPlan>,
}

/// Something with blobs in it.
pub(crate) trait Blobs {
    /// The content at this path; None when there is none.
    fn find(&self, path: &str) -> Result<Option<Region>, ArchiveError>;

    fn get(&self, path: &str) -> Result<Region, ArchiveError> {
        self.find(path)?.ok_or_else(|| ArchiveError::Missing(path.to_owned()))
    }

    /// A document, at most [`limits::JSON_BYTES`] long.
    fn document(&self, path: &str) -> Result<Vec<u8>, ArchiveError> {
        let region = self.get(path)?;
        let (size, limit) = (region.len(), limits::JSON_BYTES);
        if size > limit {
            return Err(ArchiveError::TooLarge { path: path.to_owned(), size, limit });
        }
        region.bytes().map_err(|source| ArchiveError::Read { path: path.to_owned(), source })
    }
}

/// The images in an archive or layout, of whichever form. A bare tag in an OCI index names the
/// image after `stem`, the name of the archive or directory.
pub(crate) fn plan(blobs: &dyn Blobs, stem: Option<&str>) -> Result<Vec<ImagePlan>, ArchiveError> {
    let plans = if blobs.find(docker::MANIFEST)?.is_some() {
        docker::plan(blobs)?
    } else if blobs.find(oci::INDEX)?.is_some() {
        oci::plan(blobs, stem)?
    } else if blobs.find("repositories")?.is_some() {
        return Err(ArchiveError::OldDocker);
    } else {
        return Err(ArchiveError::UnknownForm);
    };
    merge_same(plans)
}

/// One plan per image ID, with the names of all; a name stands for one image.
fn merge_same(plans: Vec<ImagePlan>) -> Result<Vec<ImagePlan>, ArchiveError> {
    let mut merged: Vec<ImagePlan> = Vec::new();
    for plan in plans {
        for other in merged.iter().filter(|other| other.id != plan.id) {
            if let Some(name) = plan.names.iter().find(|name| other.names.contains(name)) {
                return Err(ArchiveError::NameTwice(name.familiar()));
            }
        }
        match merged.iter_mut().find(|other| other.id == plan.id) {
            Some(same) => same.names.extend(plan.names),
            None => merged.push(plan),
        }
    }
    for plan in &mut merged {
        plan.names.sort();
        plan.names.dedup();
    }
    Ok(merged)
}

fn json<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    crate::json::parse(bytes).map_err(|source| ArchiveError::Json { path: path.to_owned(), source })
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(&Sha256::digest(bytes).into())
}

/// The configuration at this path, whose digest is known when `expected` says it.
fn configuration(
    blobs: &dyn Blobs,
    path: &str,
    expected: Option<Digest>,
) -> Result<(Digest, String, Document), ArchiveError> {
    let bytes = blobs.document(path)?;
    let id = sha256(&bytes);
    if let Some(expected) = expected.filter(|expected| *expected != id) {
        return Err(ArchiveError::Digest { path: path.to_owned(), expected, found: id });
    }
    let document = Document::parse(&bytes)
        .map_err(|source| ArchiveError::Config { path: path.to_owned(), source })?;
    let raw = String::from_utf8(bytes).map_err(|_| ArchiveError::Value {
        path: path.to_owned(),
        reason: "it is not UTF-8".to_owned(),
    })?;
    Ok((id, raw, document))
}

/// The digest in a path of the form `blobs/sha256/<hex>` or `<hex>.json`.
fn digest_in(path: &str) -> Option<Digest> {
    let name = path.strip_prefix("blobs/sha256/").or_else(|| path.strip_suffix(".json"))?;
    format!("sha256:{name}").parse().ok()
}
