//! One VM: everything of QEMU lives behind this crate, and its public words are accelerator, engine,
//! template, restore, pause and exit.
//!
//! A VM is booted once for each shape and frozen as a [`Template`]; every box is a copy-on-write
//! [`restore`] of it. The runtime finds or bakes templates ([`Templates::ensure`]), a shim opens one
//! by its key ([`Templates::get`]), restores it and owns the [`Vm`] until it has ended.
//!
//! Async functions want a tokio runtime with I/O and time. VMs die with the thread that started
//! them, so that thread has to live as long as the process: use the `current_thread` runtime.

mod accel;
mod blocking;
mod cache;
mod command;
mod confine;
mod disk;
mod engine;
mod error;
mod failpoint;
#[cfg(test)]
mod guinea;
mod host;
mod launch;
mod oom;
mod process;
mod qmp;
mod ram;
mod restore;
pub mod snapshot;
pub mod sparse;
mod stand_still;
mod sys;
mod tail;
mod template;
mod usage;
mod vm;

pub use accel::{Accelerator, Choice, Finding, Verdict, probe};
pub use command::{BOX_DISK_BYTES, CHANNEL_NAME, DiskDurability, IMAGE_DISK_BYTES, MAX_LAYERS};
pub use confine::QemuUser;
pub use disk::{Disk, make_overlay};
pub use engine::{Engine, Version};
pub use error::Error;
pub use oom::OomWatch;
pub use process::{Ended, Identity, VmExit, VmStatus};
pub use restore::{RestoreRequest, restore};
pub use tail::Tail;
pub use template::{
    BakeRequest, BootFiles, IdleError, Manifest, MountRequest, Progress, Template, TemplateInfo,
    Templates,
};
pub use usage::Usage;
pub use vm::{Timings, Vm};
