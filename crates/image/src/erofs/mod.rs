//! An EROFS writer: uncompressed, 4 KiB blocks, extended inodes; Linux 5.4 and newer read it.
//!
//! The image is written in one pass: block 0 (the superblock) is left for the end, file data is
//! appended block by block while the layers stream by ([`DataWriter`]), and directories and inodes
//! follow when the tree is known ([`finish`]). Called by the layer merge, by import and the store.
//!
//! ```text
//! | superblock | file data … | whole directory blocks | inodes, xattrs, inline tails |   hole …  |
//! 0            4096          data end                 meta_blkaddr                   content     32 GiB
//! ```

mod data;
mod digest;
mod directory;
mod inode;
mod layout;
mod metadata;
mod superblock;
mod xattr;

use std::path::PathBuf;

pub(crate) use data::DataWriter;
pub(crate) use digest::content_digest;
pub(crate) use metadata::finish;
pub(crate) use xattr::{Refused, classify};

/// Why a block image can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The image would not fit its fixed disk.
    #[error(
        "the image does not fit: {needed} bytes more are needed and {left} of the {limit} bytes of \
         an image's disk are left"
    )]
    TooBig {
        /// What was claimed.
        needed: u64,
        /// What is left.
        left: u64,
        /// The size of the disk.
        limit: u64,
    },
    /// A file system error.
    #[error("can't {doing} the block image {path}")]
    Io {
        /// The step.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}
