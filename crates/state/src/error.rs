//! Why state on disk could not be read or changed.

use std::io;
use std::path::{Path, PathBuf};

use boxwood_types::BoxName;

/// Why an operation on a home failed. Nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system said no.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file is not what was written there.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A file of a box that is there is not.
    #[error("{} is missing, so the box is damaged: remove it by force (rm -f)", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is larger than it can be.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Another box has the name.
    #[error(
        "the name '{name}' is in use by box {holder}; remove or rename that box to use it again"
    )]
    NameTaken {
        /// The name.
        name: BoxName,
        /// The first digits of the id of the box that has it.
        holder: String,
    },
    /// A box was to be given the name it has.
    #[error("the box has the name '{0}' already")]
    SameName(BoxName),
    /// Another snapshot has the name.
    #[error("there is a snapshot named '{0}' already; 'boxwood snapshot rm {0}' removes it")]
    SnapshotTaken(String),
    /// No snapshot has this name.
    #[error("no such snapshot: {0}")]
    NoSuchSnapshot(String),
    /// No box answers to this text.
    #[error("no such box: {0}")]
    NoSuchBox(String),
    /// More than one box's id starts with this text.
    #[error("'{0}' is the beginning of more than one box's id: give more digits")]
    Ambiguous(String),
}

impl StateError {
    /// An adapter for `map_err`: names the action and the path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError + use<> {
        let path = path.to_owned();
        move |source| StateError::Io { action, path, source }
    }

    /// Whether the disk had no room for what was to be written.
    pub fn is_for_want_of_room(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, StateError::Io { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Whether a box can't be read because its files are not what they were.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. } | Self::TooLarge { .. })
    }

    /// The same for errors of rustix.
    pub fn os(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(rustix::io::Errno) -> StateError + use<> {
        let path = path.to_owned();
        move |errno| StateError::Io { action, path, source: errno.into() }
    }
}
