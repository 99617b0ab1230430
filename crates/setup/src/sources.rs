//! Where the user wants the kernel and the guest from. Filled from the environment by the CLI,
//! by hand in tests.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Which kernel and which guest binary to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The kernel.
    pub kernel: KernelSource,
    /// The guest binary; `None` looks near the running executable.
    pub guest: Option<PathBuf>,
}

/// Where the kernel comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KernelSource {
    /// The distribution's package, or else the kernel the host runs.
    #[default]
    Distribution,
    /// These files.
    Files {
        /// A bzImage or an uncompressed ELF vmlinux.
        image: PathBuf,
        /// Its modules; `None` means `/lib/modules/<release of the image>`.
        modules: Option<PathBuf>,
    },
}

impl Sources {
    /// Reads `BOXWOOD_KERNEL`, `BOXWOOD_MODULES` and `BOXWOOD_GUEST`. Empty counts as unset.
    ///
    /// # Errors
    /// `BOXWOOD_MODULES` without `BOXWOOD_KERNEL`, or no current directory for a relative path.
    pub fn from_env() -> Result<Self, Error> {
        let image = path_from_env("BOXWOOD_KERNEL")?;
        let modules = path_from_env("BOXWOOD_MODULES")?;
        let kernel = match (image, modules) {
            (Some(image), modules) => KernelSource::Files { image, modules },
            (None, None) => KernelSource::Distribution,
            (None, Some(_)) => return Err(Error::ModulesWithoutKernel),
        };
        Ok(Sources { kernel, guest: path_from_env("BOXWOOD_GUEST")? })
    }
}

fn path_from_env(name: &'static str) -> Result<Option<PathBuf>, Error> {
    let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let path = Path::new(&value);
    std::path::absolute(path)
        .map(Some)
        .map_err(|source| Error::Stat { path: path.to_owned(), source })
}
