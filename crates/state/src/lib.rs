//! What a home holds on disk, and what is said over a box's control socket: the part of a box that
//! its shim and everybody else must agree on.
//!
//! A home is a directory; each box is a directory in it with a spec (written once), a record
//! (replaced atomically at every transition), a lock its shim holds for life, its disk, its log and
//! its control socket. "Running" is proven by the lock, never by a process id. Nothing here starts,
//! signals or waits for a process.

pub mod atomic;
mod boxdir;
pub mod clock;
pub mod control;
mod disk;
mod error;
pub mod events;
mod failpoint;
mod health;
mod home;
pub mod log;
pub mod metrics;
mod pool;
mod record;
mod room;
mod segments;
mod snapshots;
mod spec;
mod text;

pub use boxdir::{BoxDir, NewBox, Owner};
pub use disk::DiskFiles;
pub use error::StateError;
pub use failpoint::{failpoint, prepare_failpoints};
pub use health::{Health, HealthSpec, Probe, ProbeResult};
pub use home::Home;
pub use pool::{Member, MemberRequest, MemberSpec, PoolConfig, PoolFailure, PoolShape};
pub use record::{ExitRecord, Record, ShimIdentity};
pub use snapshots::{
    Fresh, INFO as SNAPSHOT_INFO, Snapshot, SnapshotInfo, SnapshotPart, SnapshotSize,
};
pub use spec::{
    AfterExit, BoxSpec, Client, ImageRef, ProcessSpec, SnapshotMade, SnapshotRef, StopPolicy,
    TemplateRef,
};
pub use text::Text;
