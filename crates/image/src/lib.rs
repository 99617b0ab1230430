//! The image store: archives, layouts and directories in; one read-only EROFS block image per OCI
//! image out.
//!
//! Nothing of a layer is ever unpacked onto the host's file system. A layer is streamed through a
//! hardened tar reader (`tar`) into a tree in memory (`tree`) and a block image (`erofs`), so a
//! path in it can only name something in that image. What archives hold is found in `archive`; the
//! store publishes finished images atomically and is used by any number of processes at once.
//!
//! Everything here blocks: async callers use their blocking pool.

mod archive;
mod builtin;
mod clock;
mod compress;
mod config;
mod erofs;
mod error;
mod import;
mod json;
mod layer;
mod limits;
mod region;
mod store;
mod stream;
mod tar;
mod tree;

pub use archive::ArchiveError;
pub use config::{ConfigError, ImageConfig};
pub use erofs::WriteError;
pub use error::{ErrorKind, ImageError};
pub use import::{Import, ImportError};
pub use layer::LayerError;
pub use limits::IMAGE_DISK_BYTES;
pub use store::{Image, ImageStore, ImageSummary, Loaded, Progress, Removal, Removed, Source};
pub use tar::TarError;
pub use tree::TreeError;
