//! Why something about a VM failed: one variant for each step that can. One line each for people;
//! the cause is the source. Returned by everything in this crate.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use boxwood_types::Shape;

use crate::accel::{Accelerator, Finding};
use crate::engine::Version;
use crate::process::VmExit;

/// Everything that can go wrong with a VM or a template.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `BOXWOOD_ACCEL` is none of its words.
    #[error("BOXWOOD_ACCEL is '{0}': set it to auto, kvm or tcg")]
    BadAccelerator(String),
    /// `BOXWOOD_ACCEL=kvm` where KVM is no good.
    #[error("BOXWOOD_ACCEL=kvm is refused: {0}; set it to auto or tcg")]
    KvmRefused(Finding),
    /// The host's clock, boot id or CPU could not be read.
    #[error("can't read {what} of the host")]
    Host {
        /// What was to be read.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no QEMU.
    #[error("no QEMU found: install it (Debian: apt install qemu-system-x86) or set BOXWOOD_QEMU")]
    NoEngine,
    /// A QEMU lacks something.
    #[error(
        "{} has no {lacks}: install another QEMU (Debian: apt install qemu-system-x86) or set \
         BOXWOOD_QEMU", path.display()
    )]
    EngineLacks {
        /// The QEMU.
        path: PathBuf,
        /// What it lacks.
        lacks: String,
    },
    /// A QEMU is too old.
    #[error("{} is version {version}: Boxwood needs QEMU {} or newer", path.display(), Version::OLDEST)]
    EngineTooOld {
        /// The QEMU.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
    /// A QEMU can't even be asked what it is.
    #[error("can't ask {} what it can do (with {question}): is it a QEMU?", path.display())]
    EngineSilent {
        /// The QEMU.
        path: PathBuf,
        /// The argument it was asked with.
        question: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A descriptor for QEMU could not be made.
    #[error("can't make {what} for QEMU")]
    Prepare {
        /// The descriptor.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A descriptor was opened for something else.
    #[error("the box's {file} must be opened {needs}")]
    WrongAccess {
        /// Image, disk or console.
        file: &'static str,
        /// How.
        needs: &'static str,
    },
    /// A file of a box has not the size its template was made with.
    #[error("the box's {file} has {is} bytes; it must have {needs}")]
    WrongSize {
        /// Image or disk.
        file: &'static str,
        /// Its length.
        is: u64,
        /// The length every one has.
        needs: u64,
    },
    /// QEMU could not be started.
    #[error("can't start {}", path.display())]
    Spawn {
        /// The QEMU.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU could not be confined, so it was not started.
    #[error("can't confine QEMU: {step} failed")]
    Confine {
        /// The step.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU runs as a user of its own, and the accelerator's device is root's alone.
    #[error(
        "QEMU can't open {0} as a user of its own: let a group do it (chgrp kvm {0}; chmod 660 {0}) \
         or set BOXWOOD_ACCEL=tcg", path.display()
    )]
    DeviceForRootOnly {
        /// The device.
        path: PathBuf,
    },
    /// QEMU could not be given its RAM.
    #[error("can't give QEMU (pid {pid}) its RAM")]
    GiveRam {
        /// QEMU.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was captured could not be written to a memory.
    #[error("can't write the memory of QEMU (pid {pid})")]
    FillMemory {
        /// QEMU.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A memory could not be read.
    #[error("can't read the memory of QEMU (pid {pid})")]
    OwnMemory {
        /// QEMU.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A memory is in too many pieces to be captured once more.
    #[error("its memory was captured {limit} times, which is the most: start the box again")]
    TooManyCaptures {
        /// That is how many.
        limit: usize,
    },
    /// A snapshot can't be used.
    #[error("the snapshot in {} can't be restored: {reason}", path.display())]
    Unfit {
        /// Where it is.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A snapshot is whole, and its memory is of no use on this host.
    #[error(
        "the snapshot in {} can't go on here: {reason}; \
         'boxwood restore --disk-only' begins anew with its disk", path.display()
    )]
    Foreign {
        /// Where it is.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was to be imported is no snapshot.
    #[error("this is no snapshot that was exported, or a damaged one: {reason}")]
    NoArchive {
        /// What is wrong with it.
        reason: String,
    },
    /// A snapshot has no memory.
    #[error(
        "the snapshot in {} is of a disk alone: \
         'boxwood restore --disk-only' begins anew with it", path.display()
    )]
    DiskAlone {
        /// Where it is.
        path: PathBuf,
    },
    /// QEMU ended while something was awaited from it.
    #[error("QEMU (pid {pid}) ended while it was to {doing}: {exit}")]
    VmDied {
        /// What was awaited.
        doing: &'static str,
        /// QEMU.
        pid: u32,
        /// How it ended, with its last words.
        exit: Box<VmExit>,
    },
    /// QEMU is alive and does not do what it should.
    #[error("QEMU (pid {pid}) did not {doing} within {} s", within.as_secs_f32())]
    VmWedged {
        /// What was awaited.
        doing: &'static str,
        /// QEMU.
        pid: u32,
        /// For how long.
        within: Duration,
    },
    /// QEMU refuses a command.
    #[error("QEMU (pid {pid}) refuses {command}: {reason}")]
    Refused {
        /// QEMU.
        pid: u32,
        /// The command.
        command: &'static str,
        /// QEMU's words.
        reason: String,
    },
    /// QEMU's control connection is broken.
    #[error("QEMU (pid {pid}) can't be controlled: {reason}")]
    Control {
        /// QEMU.
        pid: u32,
        /// What came instead of an answer.
        reason: String,
    },
    /// QEMU could not write or load the state of a VM.
    #[error("QEMU (pid {pid}) failed to {doing}: {reason}")]
    Migration {
        /// QEMU.
        pid: u32,
        /// `freeze the template` or `load the template`.
        doing: &'static str,
        /// QEMU's words.
        reason: String,
    },
    /// QEMU outlived SIGKILL.
    #[error(
        "QEMU (pid {pid}) is still there {} s after SIGKILL: nothing of its box was touched",
        within.as_secs_f32()
    )]
    StillAlive {
        /// QEMU.
        pid: u32,
        /// How long it was awaited.
        within: Duration,
    },
    /// A file of a template could not be used.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU could not write to a file it has mapped.
    #[error("can't write the template's memory to {}: is the disk full?", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// How QEMU ended.
        #[source]
        source: Box<Error>,
    },
    /// There is no template with this key.
    #[error("there is no template {key} in {}: start the box again to have it baked", store.display())]
    NoTemplate {
        /// Where it was looked for.
        store: PathBuf,
        /// The key.
        key: String,
    },
    /// A template is not what its manifest says, or not for this host (contract S1).
    #[error("template {key} can't be used: {reason}")]
    Damaged {
        /// The key.
        key: String,
        /// What does not fit.
        reason: String,
    },
    /// A kernel or initramfs is not what it was said to be.
    #[error("{} changed after it was set up: run 'boxwood setup' again", path.display())]
    BootFileChanged {
        /// The file.
        path: PathBuf,
    },
    /// The guest did not become idle.
    #[error("the guest did not become idle")]
    NotIdle(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No template could be made.
    #[error(
        "can't bake a template of {shape} with {accelerator}{}{console}",
        if console.is_empty() { "" } else { "; last lines of its console: " }
    )]
    Bake {
        /// Of what shape.
        shape: Shape,
        /// With what.
        accelerator: Accelerator,
        /// The console's last lines, joined.
        console: String,
        /// The step that failed.
        #[source]
        source: Box<Error>,
    },
    /// A template for one image can't be made.
    #[error(
        "can't mount image {image} ahead of its boxes{}{console}",
        if console.is_empty() { "" } else { "; last lines of the console: " }
    )]
    Mount {
        /// The image's ID.
        image: String,
        /// The console's last lines, joined.
        console: String,
        /// The step that failed.
        #[source]
        source: Box<Error>,
    },
}

impl Error {
    /// For `map_err`: what was tried on which file of a template.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl Fn(io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { action, path: path.clone(), source }
    }

    /// For `map_err`: which descriptor could not be made.
    pub(crate) fn prepare<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |source| Error::Prepare { what, source: source.into() }
    }
}
