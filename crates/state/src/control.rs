//! What a shim and its clients say to each other over a box's control socket.
//!
//! The frames are those of [`boxwood_wire::frame`]; requests and replies are JSON, so that a client
//! of another version finds what it knows and passes over what it does not. A connection begins with
//! one [`Request`]. A client is another process of the same user; it is not trusted with lengths.
//!
//! A connection that asked for [`Request::Exec`] or [`Request::Attach`] goes on as the standard streams
//! of a process, and its end is the end of that client. What is said about such a process beside its
//! streams goes over a connection of its own: it must not wait behind input that nobody reads.

use boxwood_types::{BoxState, ExitStatus, Signal, StartRefusal, WindowSize};
use boxwood_wire::frame::{self, FrameError, Kind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::{Client, ExitRecord, ProcessSpec, SnapshotPart};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Tell me when the box has ended.
    Wait,
    /// Tell me how main has ended as soon as that is known. Its VM may still be ending then.
    Result,
    /// Send main a signal.
    Signal {
        /// Which.
        signal: Signal,
    },
    /// End main as its stop policy says, or as said here.
    Stop {
        /// Instead of the box's stop signal.
        signal: Option<Signal>,
        /// Instead of the box's stop timeout, in milliseconds.
        grace_ms: Option<u64>,
    },
    /// End the VM at once.
    Kill,
    /// Let the VM stand still.
    Pause,
    /// Let it go on.
    Unpause,
    /// Start a process beside main. Frames of its standard streams follow, both ways.
    Exec {
        /// What to start.
        exec: Exec,
    },
    /// Let me have main's standard streams, too, from now on.
    Attach,
    /// The same, and before that everything main wrote earlier, as far as its log is kept.
    Replay,
    /// Something for a session.
    Session {
        /// The number that [`Reply::SessionStarted`] gave it.
        session: u32,
        /// What.
        act: SessionAct,
    },
    /// Give main's terminal another size.
    Resize {
        /// Which.
        size: WindowSize,
    },
    /// The client that the box was started for will go, and the box is to stay.
    Release,
    /// Tell me what the VM takes of the host.
    Usage,
    /// Capture the running box into a directory of its home, which was made for it.
    Capture {
        /// The directory's name among the unfinished snapshots.
        token: String,
        /// What of it.
        #[serde(default)]
        part: SnapshotPart,
    },
    /// The box's spec is another: heed it.
    Reload,
    /// Tell me what the guest says about the box.
    Report {
        /// Of what.
        of: Subject,
    },
}

/// What a VM has taken of the host since it was started, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in bytes: its share of what it has in common with other VMs.
    pub memory: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
}

/// What a guest can tell of its box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// What it has counted.
    Counters,
    /// Its processes.
    Processes,
}

/// What a guest has counted since the box started. Claims of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Processes it reaped that were neither main nor a session's own.
    pub orphans_reaped: u64,
    /// Sessions it began, main among them.
    pub sessions: u64,
}

/// A process, as the box's guest shows it. Claims of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxProcess {
    /// Its id in the box.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its user's name in the image, or number.
    pub user: String,
    /// Its state as ps(1) shows it: a letter, such as `R` or `S`.
    pub state: char,
    /// Its terminal, as `pts/0`.
    pub terminal: Option<String>,
    /// When it started.
    pub started: Moment,
    /// Milliseconds since.
    pub age_ms: u64,
    /// Milliseconds of processor time it took.
    pub cpu_ms: u64,
    /// KiB of memory it has in use.
    pub rss_kib: u64,
    /// Its command line, or its name in brackets.
    pub command: String,
}

/// A process to start beside main.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// What it is, complete: nothing is taken from main.
    pub process: ProcessSpec,
    /// When it is killed, with everything it started; in milliseconds from its start.
    pub timeout_ms: Option<u64>,
    /// Whether the client stays: a session whose client stays ends with it (contract G6).
    pub client: Client,
}

/// What can be done to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionAct {
    /// Send every process of it this signal.
    Signal(Signal),
    /// Give its terminal this size.
    Resize(WindowSize),
    /// Its client will go, and it is to go on.
    Release,
}

/// What a shim answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Main runs.
    Started {
        /// Microseconds each step of the start took, for people who measure.
        steps: Vec<(String, u64)>,
    },
    /// The signal was handed on.
    Done,
    /// The request does not fit the box's state.
    Refused {
        /// The state.
        state: BoxState,
        /// Why.
        message: String,
    },
    /// The process beside main runs. The last reply when nobody stays with it.
    SessionStarted {
        /// What to call it.
        session: u32,
    },
    /// The process beside main has ended, or was not started. All its output came before.
    SessionEnded {
        /// How.
        end: SessionEnd,
    },
    /// Main's standard streams are this connection's, too.
    Attached,
    /// What the VM takes of the host.
    Usage {
        /// That.
        usage: Usage,
    },
    /// The box was captured and goes on.
    Captured {
        /// How long it stood still, in microseconds.
        pause_us: u64,
        /// How many pages of memory were stored.
        pages: u64,
    },
    /// What the guest has counted.
    Counters {
        /// That.
        counters: Counted,
    },
    /// The processes of the box.
    Processes {
        /// By their ids.
        processes: Vec<BoxProcess>,
        /// How many more there are.
        more: u32,
    },
    /// Main has ended, and this is its result; the box is ending.
    Result {
        /// How.
        exit: ExitRecord,
    },
    /// The box has ended and nothing of it runs any more.
    Ended {
        /// How.
        exit: ExitRecord,
        /// Why that could not be written down, if so: who looks later finds a lost box.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unwritten: Option<String>,
    },
}

/// What became of a process beside main.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// It ended.
    Exited {
        /// How.
        status: ExitStatus,
    },
    /// Its time was up.
    TimedOut,
    /// It was not started, by its own fault.
    Refused {
        /// 126 or 127.
        refusal: StartRefusal,
        /// Why.
        reason: String,
    },
    /// It was not started, or nobody knows its end.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A request or reply as a frame.
///
/// # Errors
/// When it is larger than a frame may be.
pub fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, FrameError> {
    let payload = serde_json::to_vec(value).expect("plain data always encodes");
    if payload.len() > frame::MAX_VALUE {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        return Err(FrameError::TooLong { kind, length, limit: frame::MAX_VALUE });
    }
    let mut bytes = frame::header(kind, payload.len()).to_vec();
    bytes.extend(payload);
    Ok(bytes)
}

/// The request or reply in a frame's payload.
///
/// # Errors
/// When it is none.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(payload)
}
