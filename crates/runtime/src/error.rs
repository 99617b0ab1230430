//! Why the runtime could not do what was asked. One line for people each; the cause is the source.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use boxwood_state::ExitRecord;
use boxwood_types::{BoxId, BoxName, BoxState, ByteSize, ExitStatus};

/// Everything that can go wrong above a box's own life.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The home said no.
    #[error(transparent)]
    State(#[from] boxwood_state::StateError),
    /// The image store said no.
    #[error(transparent)]
    Image(#[from] boxwood_image::ImageError),
    /// What a VM is booted with is missing.
    #[error(transparent)]
    Setup(#[from] boxwood_setup::Error),
    /// QEMU or a template failed.
    #[error(transparent)]
    Vmm(#[from] boxwood_vmm::Error),
    /// Nothing says where an ordinary user's boxes are.
    #[error(
        "there is no place for boxes, as HOME is not set: \
         set BOXWOOD_HOME to a directory of this user's own"
    )]
    NoHome,
    /// A relative path, and the directory at hand is gone.
    #[error("can't tell where {} is", path.display())]
    Relative {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More memory than there is.
    #[error("a box of {asked} does not fit into this host, which has {host} of memory")]
    TooMuchMemory {
        /// What was asked for.
        asked: ByteSize,
        /// What there is.
        host: ByteSize,
    },
    /// More vCPUs than the host has.
    #[error(
        "range of CPUs is from 1 to {host}, as there are only {host} CPUs available, not {asked}"
    )]
    TooManyCpus {
        /// What was asked for.
        asked: u32,
        /// What there is.
        host: u32,
    },
    /// A log can't be read.
    #[error("can't read the log")]
    Log(#[source] io::Error),
    /// Both `--restart` and `--rm`.
    #[error("conflicting options: cannot specify both --restart and --rm")]
    RestartAndRemove,
    /// A restart policy for a box that is removed at its end.
    #[error(
        "restart policy cannot be updated because box {} is removed when it has ended (--rm)",
        id.short()
    )]
    RestartOfRemoved {
        /// The box.
        id: BoxId,
    },
    /// Wishes for the health check that don't go together.
    #[error("{0}")]
    BadHealth(String),
    /// A malformed variable of an image.
    #[error("invalid environment variable '{0}': write NAME=value")]
    BadImageEnv(String),
    /// A malformed `-e`.
    #[error("invalid environment variable '{0}': write NAME=value, or NAME to pass on your own")]
    BadEnv(String),
    /// A relative `-w`.
    #[error("the working directory '{0}' is invalid: it must be an absolute path")]
    BadWorkdir(String),
    /// A malformed `--hostname`.
    #[error("invalid hostname '{0}': it takes up to 64 letters, digits, '-' and '.'")]
    BadHostname(String),
    /// Neither the image nor the user says what to run.
    #[error("no command specified: the image '{0}' has none, so say what to run after its name")]
    NoCommand(String),
    /// The host has no random numbers.
    #[error("the host gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// No free name was found.
    #[error("found no free name for the box: give one with --name")]
    NoFreeName,
    /// The box's disk could not be made.
    #[error("can't make the disk of the box at {}", path.display())]
    Disk {
        /// The disk.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no event loop, or no thread for one.
    #[error("can't start the event loop")]
    NoLoop(#[source] io::Error),
    /// What a captured box ran is not in the store.
    #[error("the snapshot '{name}' needs its image {image}: load it first")]
    ImageOfSnapshot {
        /// The snapshot.
        name: BoxName,
        /// The image: what it was called, and its id.
        image: String,
        /// Why.
        #[source]
        source: Box<boxwood_image::ImageError>,
    },
    /// The disk of a box has too many layers.
    #[error("box {} has a disk of {limit} layers, which is the most", id.short())]
    TooManyLayers {
        /// The box.
        id: BoxId,
        /// That is how many.
        limit: usize,
    },
    /// The shim could not be started.
    #[error("can't start the shim of box {}", id.short())]
    Spawn {
        /// The box.
        id: BoxId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The shim's connection failed.
    #[error("the connection to the shim of box {} failed", id.short())]
    Connection {
        /// The box.
        id: BoxId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The shim ended before it said how its box ended.
    #[error("the shim of box {} ended without a word; see 'boxwood inspect {}'", id.short(), id.short())]
    ShimLost {
        /// The box.
        id: BoxId,
    },
    /// The box has ended, and nobody can read how.
    #[error(
        "box {} has ended {}, which could not be written down: {why}; later commands take its result for \
         unknown", id.short(), how(end)
    )]
    EndUnwritten {
        /// The box.
        id: BoxId,
        /// How it ended.
        end: Box<ExitRecord>,
        /// Why that was not written.
        why: String,
    },
    /// The shim is there and does not answer in time, so nobody knows what it does.
    #[error(
        "box {} did not answer within {} s: if it was to be ended or signalled, that is done or may still be; anything \
         else is not begun any more; look at its shim (pid {}) and its QEMU (pid {}), which may be stopped",
        id.short(), within.as_secs(), pid(*shim), pid(*vmm)
    )]
    NoAnswer {
        /// The box.
        id: BoxId,
        /// How long it had.
        within: Duration,
        /// The process id of its shim, if it is known.
        shim: Option<u32>,
        /// The process id of its VM, if it is known.
        vmm: Option<u32>,
    },
    /// What was changed is written down, and the shim does not answer in time.
    #[error(
        "box {} is changed, and did not answer within {} s: it heeds the change when it goes on; look at its \
         shim (pid {}) and its QEMU (pid {}), which may be stopped",
        id.short(), within.as_secs(), pid(*shim), pid(*vmm)
    )]
    Unheeded {
        /// The box.
        id: BoxId,
        /// How long it had.
        within: Duration,
        /// The process id of its shim, if it is known.
        shim: Option<u32>,
        /// The process id of its VM, if it is known.
        vmm: Option<u32>,
    },
    /// What the shim says is not understood.
    #[error("the shim of box {} says what this version does not understand", id.short())]
    ShimProtocol {
        /// The box.
        id: BoxId,
    },
    /// More than a frame may carry.
    #[error(
        "the command and its environment are too large: {limit} is the limit for both together"
    )]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// More VMs are to wait than can.
    #[error("{asked} VMs are too many for a pool: at most {most}")]
    PoolTooLarge {
        /// So many were asked for.
        asked: u32,
        /// So many can be.
        most: u32,
    },
    /// A VM that was to wait for a box could not be made.
    #[error("the pool is not as it was to be: {why}")]
    NotWarm {
        /// Why.
        why: String,
    },
    /// The box is not in a state for it.
    #[error("box {} is {state}: {hint}", id.short())]
    WrongState {
        /// The box.
        id: BoxId,
        /// Its state.
        state: BoxState,
        /// What can be done.
        hint: &'static str,
    },
    /// A damaged box has an owner, which can't be asked.
    #[error("box {} is damaged and its shim still runs: nothing of it was touched", id.short())]
    Owned {
        /// The box.
        id: BoxId,
    },
    /// A box has ended and is still somebody's.
    #[error(
        "box {} has ended and was not removed: another process holds its lock ({})",
        id.short(), path.display()
    )]
    Held {
        /// The box.
        id: BoxId,
        /// Its lock.
        path: PathBuf,
    },
    /// The shim refuses.
    #[error("box {} is {state}: {message}", id.short())]
    Refused {
        /// The box.
        id: BoxId,
        /// Its state.
        state: BoxState,
        /// Why.
        message: String,
    },
    /// Something could not be read or written.
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
}

fn how(end: &ExitRecord) -> String {
    match end.status {
        ExitStatus::Unknown => "with an unknown result".to_owned(),
        ExitStatus::Code(_) | ExitStatus::Signal(_) => format!("with code {}", end.code),
    }
}

fn pid(pid: Option<u32>) -> String {
    pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}
