//! What can go wrong, seen by the crate's callers: one variant per failing step, and a small kind
//! for those who only choose an exit code or an HTTP status.

use std::path::PathBuf;

use boxwood_types::Digest;

use crate::archive::ArchiveError;
use crate::config::ConfigError;
use crate::erofs::WriteError;
use crate::import::ImportError;
use crate::layer::LayerError;

/// What an error means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such image.
    NotFound,
    /// What was given can't be used: an archive, a layer, a name.
    BadInput,
    /// The image is in use, or the request is ambiguous.
    Conflict,
    /// The store itself is damaged.
    Damaged,
    /// The host: a file system error, a missing program.
    Host,
}

/// An error of the image store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A file of the store can't be read or written.
    #[error("can't {doing} {path}")]
    Store {
        /// The step.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A file of the store holds no valid document.
    #[error("{path} is damaged; remove it and load or import the images it names again")]
    StoreJson {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// An image whose files are missing or altered.
    #[error("image {id} is damaged ({reason}); remove it and load or import it again")]
    Damaged {
        /// The image.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The input can't be opened or read.
    #[error("can't read {input}")]
    Input {
        /// The file, or "standard input".
        input: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The input is larger than any image.
    #[error("{input} has more than {limit} bytes uncompressed")]
    InputTooBig {
        /// The file, or "standard input".
        input: String,
        /// The limit.
        limit: u64,
    },
    /// An archive or layout that can't be loaded.
    #[error("can't load {input}")]
    Archive {
        /// The file or directory, or "standard input".
        input: String,
        /// The reason.
        #[source]
        source: ArchiveError,
    },
    /// A layer that can't be merged.
    #[error("bad layer {layer}")]
    Layer {
        /// Which one: "2 of 3 (path)".
        layer: String,
        /// The reason.
        #[source]
        source: LayerError,
    },
    /// A layer that can't be read or decompressed.
    #[error("layer {layer} can't be read")]
    LayerRead {
        /// Which one.
        layer: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Layers that grow beyond any image.
    #[error("layer {layer} makes the image larger than {limit} bytes, the size of an image's disk")]
    LayerTooBig {
        /// Which one.
        layer: String,
        /// The limit.
        limit: u64,
    },
    /// A layer that is not what the image says.
    #[error("layer {layer} is damaged: its {what} is {found}, not {expected}")]
    LayerDigest {
        /// Which one.
        layer: String,
        /// "digest" or "diff_id".
        what: &'static str,
        /// What the image says.
        expected: Digest,
        /// What was found.
        found: Digest,
    },
    /// The block image can't be written.
    #[error("the image can't be stored")]
    Write(#[source] WriteError),
    /// A configuration that can't be used.
    #[error("the configuration can't be used")]
    Config(#[source] ConfigError),
    /// A root file system that can't be imported.
    #[error("can't import {input}")]
    Import {
        /// The file or directory, or "standard input".
        input: String,
        /// The reason.
        #[source]
        source: ImportError,
    },
    /// No image of this name or ID.
    #[error(
        "no image '{0}' here; bring it in with 'boxwood load -i ARCHIVE' or \
         'boxwood import ROOTFS {0}'"
    )]
    NotFound(String),
    /// A text that can't name an image.
    #[error("'{0}' can't name an image")]
    BadReference(String, #[source] boxwood_types::ImageNameError),
    /// The start of several IDs.
    #[error("'{prefix}' is the start of {count} image IDs; write more of it")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many it fits.
        count: usize,
    },
    /// Something still needs the image.
    #[error("image {id} is in use by {user}; remove that first")]
    InUse {
        /// The image.
        id: String,
        /// Who uses it.
        user: String,
    },
    /// Removal by ID of an image with several names.
    #[error("image {id} has several names ({names}); remove it by name, or force its removal")]
    SeveralNames {
        /// The image.
        id: String,
        /// Its names.
        names: String,
    },
    /// The host has no busybox to make the default image of.
    #[error(
        "the default image is made of this host's static busybox, and there is none; install it: \
         apt-get install busybox-static (or name one in BOXWOOD_BUSYBOX)"
    )]
    NoBusybox,
    /// The busybox can't be used.
    #[error("{path} can't become the default image: {reason}")]
    BadBusybox {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl ImageError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImageError::NotFound(_) => ErrorKind::NotFound,
            ImageError::InUse { .. }
            | ImageError::SeveralNames { .. }
            | ImageError::Ambiguous { .. } => ErrorKind::Conflict,
            ImageError::Damaged { .. } | ImageError::StoreJson { .. } => ErrorKind::Damaged,
            ImageError::Write(WriteError::Io { .. })
            | ImageError::Layer {
                source: LayerError::Data { source: WriteError::Io { .. }, .. },
                ..
            }
            | ImageError::Store { .. }
            | ImageError::NoBusybox
            | ImageError::BadBusybox { .. } => ErrorKind::Host,
            _ => ErrorKind::BadInput,
        }
    }
}
