//! The words of the REST API, as they are in JSON: plain and untrusted. The daemon answers with them
//! and checks them before it believes anything; a client speaks them. One file per resource.
//!
//! What is not said in a request is the default; what is not known is refused. The bounds that a
//! schema names are the daemon's to check.

mod boxes;
mod error;
mod exec;
mod images;
mod metrics;
mod pool;
mod prune;
mod snapshots;
mod stats;
mod strict;
mod system;
mod templates;

pub use boxes::{
    AttachBox, BoxInfo, BoxList, BoxState, CreateBox, Created, DeleteBox, Ended, Exit, HealthCheck,
    KillBox, ListBoxes, ListEvents, Logs, RenameBox, StopBox, TerminalSize, UpdateBox, WaitBox,
};
pub use error::{ErrorBody, ErrorKind, Problem};
pub use exec::{CreateExec, ExecCreated, ExecEnd, ExecInfo, ExecState, SignalExec};
pub use images::{
    DeleteImage, ImageInfo, ImageList, ImportImage, LoadedImage, LoadedImages, RemovedImage,
};
pub use metrics::{Bucket, Histogram, Metric, Metrics};
pub use pool::{Pool, PoolFailure, PoolShape, PoolVm, SetPool};
pub use prune::{PruneAll, Pruned};
pub use snapshots::{
    CreateSnapshot, ForkBox, Forked, ImportSnapshot, ImportedSnapshot, RestoreSnapshot,
    SnapshotInfo, SnapshotList, SnapshotSource,
};
pub use stats::{BoxProcess, BoxProcesses, BoxStats, StatsOf, Usage};
pub use system::{Health, Version};
pub use templates::{TemplateInfo, TemplateList};

/// The protocol that a connection is upgraded to: the frames of docs/protocol.md.
pub const STREAM: &str = "boxwood-stream";
/// What a body is that consists of frames.
pub const FRAMES: &str = "application/vnd.boxwood.frames";
/// What a body is that is an exported snapshot (RFC 8878).
pub const SNAPSHOT: &str = "application/zstd";
/// What a body is that consists of lines, each of them JSON.
pub const LINES: &str = "application/x-ndjson";
/// The trailer of a body that is not whole: a [`Problem`] that says why. Only who asks with `TE: trailers` gets it;
/// to others the body breaks off.
pub const PROBLEM_TRAILER: &str = "boxwood-problem";
/// The header of a request to create that may be sent twice and is done once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The label that holds such a key.
pub const KEY_LABEL: &str = "boxwood.idempotency-key";
/// The label that holds the digest of the request the key came with.
pub const BODY_LABEL: &str = "boxwood.idempotency-body";
/// What the names of labels begin with that are not for users to give.
const RESERVED_LABELS: &str = "boxwood.";

/// Checks the name of a label that a user gives, here or to a daemon.
///
/// # Errors
/// Why it is none, in one line.
pub fn check_label(name: &str) -> Result<(), String> {
    match name.is_empty() || name.starts_with(RESERVED_LABELS) {
        true => Err(format!(
            "invalid label '{name}': a name is not empty and does not begin with '{RESERVED_LABELS}'"
        )),
        false => Ok(()),
    }
}
