//! What a host must have before a box can start: found, fetched, built, checked.
//!
//! The CLI's `setup` calls [`Assets::ensure`] and [`BlankDisk::ensure`]; every `run` calls the
//! cheap [`Assets::find`] and [`BlankDisk::find`].
//!
//! Everything here blocks: async callers use their blocking pool for `ensure`. No kernel is
//! compiled and no package is installed: the distribution's own kernel is unpacked into the store.

mod assets;
mod command;
mod disk;
mod distro;
mod doctor;
mod elf;
mod error;
mod guest_binary;
mod initramfs;
mod kernel;
mod progress;
mod sources;
mod store;
mod sys;

pub use assets::Assets;
pub use disk::BlankDisk;
pub use doctor::{Check, Patient, Report, Status, Style, VmPlaces};
pub use error::{BzImageFault, ElfFault, Error, ModuleFault};
pub use progress::Progress;
pub use sources::{KernelSource, Sources};
pub use store::Stores;
