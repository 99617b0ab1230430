//! What a template is bound to and what its files are, as `manifest.json` says it (contract S1).
//! Called by the rest of `template`.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use boxwood_types::Shape;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::Key;
use super::{BakeRequest, MountRequest};
use crate::accel::Accelerator;
use crate::cache;
use crate::command;
use crate::engine::{Engine, Version};
use crate::error::Error;
use crate::host;

/// Counts changes of the files' format, and of what QEMU is told that the binding does not show.
const FORMAT: u32 = 3;

/// What makes two templates different: the key is a digest of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) format: u32,
    pub(crate) engine: Engine,
    pub(crate) accelerator: Accelerator,
    pub(crate) shape: Shape,
    /// The part of QEMU's command line that describes the machine.
    pub(crate) machine: Vec<String>,
    /// The kernel's command line, without what is measured.
    pub(crate) kernel_arguments: String,
    /// With hardware virtualization the guest has seen the host's CPU.
    pub(crate) host_cpu: Option<String>,
    pub(crate) vmlinux_sha256: String,
    pub(crate) initramfs_sha256: String,
    /// The digest of the block image that it has mounted, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mounted: Option<String>,
}

/// Everything about a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub(crate) binding: Binding,
    /// The rate of the host's clock that the guest was told.
    pub(crate) tsc_khz: u64,
    pub(crate) made_unix_s: u64,
    /// What the guest was given to keep, in hexadecimal.
    pub(crate) mark: String,
    pub(crate) ram: Content,
    pub(crate) state: Content,
    /// What the disk of a box that starts from it has to be a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<Content>,
    /// The ID of the image it was made for; others with the same content start from it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// Its length.
    pub(crate) bytes: u64,
    /// Of the data and where it is, in hexadecimal; see `verify`.
    pub(crate) sha256: String,
}

impl Binding {
    pub(super) fn of(request: &BakeRequest<'_>) -> Result<Self, Error> {
        let host_cpu = match request.accelerator {
            Accelerator::Kvm => Some(host::cpu_digest()?),
            Accelerator::Tcg => None,
        };
        Ok(Binding {
            format: FORMAT,
            engine: request.engine.clone(),
            accelerator: request.accelerator,
            shape: request.shape,
            machine: command::machine(request.shape, request.accelerator),
            kernel_arguments: command::lasting_kernel_arguments(request.accelerator, request.shape),
            host_cpu,
            vmlinux_sha256: request.boot.vmlinux_sha256.clone(),
            initramfs_sha256: request.boot.initramfs_sha256.clone(),
            mounted: None,
        })
    }

    /// The same with an image mounted.
    pub(super) fn with(&self, request: &MountRequest<'_>) -> Self {
        Binding { mounted: Some(request.block_digest.to_owned()), ..self.clone() }
    }

    /// What names the template.
    pub(super) fn key(&self) -> Key {
        // Plain data with text keys always becomes JSON.
        let text = serde_json::to_vec(self).unwrap_or_default();
        Key::from_digest(Sha256::digest(text).into())
    }
}

impl Manifest {
    /// The key of what it says.
    pub fn key(&self) -> String {
        self.binding.key().to_string()
    }

    /// vCPUs and memory.
    pub fn shape(&self) -> Shape {
        self.binding.shape
    }

    /// What it runs with.
    pub fn accelerator(&self) -> Accelerator {
        self.binding.accelerator
    }

    /// The ID of the image it is kept for; `None`: for all.
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// The version of the QEMU it runs in.
    pub fn engine_version(&self) -> Version {
        self.binding.engine.version()
    }

    /// When it was made, in seconds since 1970.
    pub fn made_unix_s(&self) -> u64 {
        self.made_unix_s
    }

    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&cache::read_bounded(path)?)?)
    }

    /// Writes it, down to the disk.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.set_permissions(Permissions::from_mode(0o444))?;
        file.sync_all()
    }
}
