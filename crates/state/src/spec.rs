//! What a box was asked to be. Written once, when the box is created.

use std::collections::BTreeMap;
use std::path::PathBuf;

use boxwood_types::{BoxId, BoxName, Digest, RestartPolicy, Shape, Signal, WindowSize};
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::log::LogPolicy;
use crate::{HealthSpec, Text};

/// A box as its creator resolved it: nothing in here is looked up again when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxSpec {
    /// Its id.
    pub id: BoxId,
    /// Its name.
    pub name: BoxName,
    /// When it was created.
    pub created: Moment,
    /// The image it runs.
    pub image: ImageRef,
    /// The template it starts from.
    pub template: TemplateRef,
    /// The template it starts from when it has a disk of its own already: its shim starts it again.
    #[serde(default)]
    pub again: Option<TemplateRef>,
    /// The snapshot that its first run goes on from, if it does not begin with a new main.
    #[serde(default)]
    pub snapshot: Option<SnapshotRef>,
    /// vCPUs and memory.
    pub shape: Shape,
    /// The host name in the box.
    pub hostname: String,
    /// Main.
    pub process: ProcessSpec,
    /// How main is asked to end.
    pub stop: StopPolicy,
    /// What users say about it, in the order of the names.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What becomes of the box after main's end.
    pub after_exit: AfterExit,
    /// Whether its shim starts it again when it has ended by itself.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How much of what main writes is kept.
    #[serde(default)]
    pub log: LogPolicy,
    /// How its health is checked, if it is.
    #[serde(default)]
    pub health: Option<HealthSpec>,
    /// Whether the client that starts the box stays with it.
    pub client: Client,
}

/// The image of a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// Its id.
    pub id: Digest,
    /// What the user called it.
    pub name: String,
    /// Its block image.
    pub block: PathBuf,
}

/// A captured box that another one goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// Where it is.
    pub directory: PathBuf,
    /// What it is.
    pub made: SnapshotMade,
}

/// How a captured box came to be where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotMade {
    /// It is kept, with digests that are checked before it is used.
    Sealed,
    /// It was captured for this box a moment ago, and goes when it runs.
    Fresh,
}

/// The template of a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRef {
    /// The directory it is in.
    pub store: PathBuf,
    /// Where what was found out about it may be kept, if that directory is not ours.
    pub cache: PathBuf,
    /// Its key there.
    pub key: String,
    /// The digest of the disk that it has mounted, of which the box's is a copy; `None`: it has none.
    #[serde(default)]
    pub disk: Option<String>,
}

/// Main or a process beside it, with the image's and the user's wishes already joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The command and its arguments: never empty.
    pub argv: Vec<Text>,
    /// How many of `argv` are the entrypoint's.
    pub entrypoint_len: usize,
    /// The environment, `NAME=value` each.
    pub env: Vec<Text>,
    /// The working directory.
    pub cwd: Text,
    /// The user, as given or as the image says.
    pub user: Text,
    /// Whether standard input is connected.
    pub open_stdin: bool,
    /// The size its terminal begins with, if it gets one.
    #[serde(default)]
    pub terminal: Option<WindowSize>,
}

/// How main is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// The first signal.
    pub signal: Signal,
    /// Milliseconds until KILL.
    pub grace_ms: u64,
}

/// What becomes of a box when main has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterExit {
    /// It stays, with its disk, log and record.
    Keep,
    /// It is removed.
    Remove,
}

/// The client that starts a box, or a process beside main.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// It stays attached; the box is stopped when it goes (contract H7), the session ended (G6).
    Attached,
    /// It goes once the process runs; that stays.
    Detached,
    /// There is none yet: the box was created to be started later.
    Later,
}
