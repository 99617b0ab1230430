//! What `ensure` tells its caller while it works. The CLI shows it; nobody decides by it.

use std::fmt;
use std::path::PathBuf;

/// One step of the set-up, told when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process sets up the same store; this one waits until it is done.
    Waiting {
        /// The store.
        store: PathBuf,
    },
    /// A package is being downloaded.
    Downloading {
        /// Its name.
        package: String,
    },
    /// A package is being unpacked into the store, not installed.
    Unpacking {
        /// Its name.
        package: String,
    },
    /// The distribution's package could not be had; the host's own kernel is taken.
    UsingHostKernel {
        /// Why, in one line.
        reason: String,
    },
    /// The kernel and its modules are being read out of their compressed files.
    ReadingKernel {
        /// The compressed kernel.
        image: PathBuf,
    },
    /// The initramfs is being built.
    BuildingInitramfs,
    /// The empty disk of which each box gets a copy is being made.
    MakingDisk,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { store } => {
                write!(f, "waiting for another setup of {}", store.display())
            }
            Self::Downloading { package } => write!(f, "downloading {package}"),
            Self::Unpacking { package } => write!(f, "unpacking {package} (nothing is installed)"),
            Self::UsingHostKernel { reason } => write!(f, "using the host's own kernel: {reason}"),
            Self::ReadingKernel { image } => write!(f, "reading the kernel {}", image.display()),
            Self::BuildingInitramfs => f.write_str("building the initramfs"),
            Self::MakingDisk => f.write_str("making the empty disk"),
        }
    }
}
