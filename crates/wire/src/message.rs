//! The values that frames carry: what the host asks of a guest and what the guest answers.
//!
//! These types are the wire's: plain, and not to be trusted. What the guest sends are claims.

use std::fmt;

use boxwood_types::{ExitStatus, Signal, StartRefusal, WindowSize};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::mux::StreamId;
use crate::preface::Mark;

/// A process to start. Texts are bytes, as Linux has them, without NUL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The command and its arguments; the first is searched in the `PATH` of `env` when it has no
    /// slash.
    pub argv: Vec<Vec<u8>>,
    /// The environment, `NAME=value` each. `HOME` is added from the user's entry if it is not there.
    pub env: Vec<Vec<u8>>,
    /// The working directory, absolute; empty for `/`.
    pub cwd: Vec<u8>,
    /// `user`, `uid`, `user:group`, `uid:gid` and mixtures, looked up in the image; empty for root.
    pub user: Vec<u8>,
    /// What its standard streams are.
    pub streams: Streams,
}

/// What a process's standard streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Streams {
    /// Pipes for output and errors, and this for input.
    Pipes(Stdin),
    /// A terminal of this size for all three: its output comes as standard output, and a half-close
    /// of the input means nothing to it.
    Terminal(WindowSize),
}

/// Where a process's standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// Frames of this stream, until the half-close.
    Stream,
}

/// What happens to the box's disk when main has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leaving {
    /// Flush it: the box may be started again.
    Flush,
    /// Leave it: the box is removed as soon as it has ended.
    Discard,
}

/// The request on [`MAIN_PORT`](crate::frame::MAIN_PORT).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MainRequest {
    /// Start main, once (contract G8).
    Start(StartMain),
    /// Main runs already: it was restored with its box. From now on this is its stream.
    Adopt(AdoptMain),
    /// Before there is a main: run a process of the guest's own on this stream, as a session, so that all of it
    /// was done once.
    Rehearse,
}

/// What is told about a main that runs already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptMain {
    /// What becomes of the disk after it.
    pub leaving: Leaving,
}

/// What main is started as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMain {
    /// What to start.
    pub process: Process,
    /// What becomes of the disk after it.
    pub leaving: Leaving,
}

/// The request on [`EXEC_PORT`](crate::frame::EXEC_PORT), for pipes, and on
/// [`PTY_PORT`](crate::frame::PTY_PORT), for a terminal: start a process beside main. It waits until
/// main runs (contract G1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSession {
    /// What to start.
    pub process: Process,
    /// When the whole session is killed, in milliseconds from its start.
    pub timeout_ms: Option<u64>,
    /// What becomes of it without its stream.
    pub attachment: Attachment,
}

/// What becomes of a session when its stream is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attachment {
    /// It is ended: HUP, then TERM, then KILL (contract G6).
    Attached,
    /// It goes on, unheard.
    Detached,
}

/// Answers about a process, main's or a session's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessReply {
    /// Its exec succeeded.
    Started,
    /// It was not started.
    Refused {
        /// 126 or 127.
        refusal: StartRefusal,
        /// Why, for people.
        reason: String,
    },
    /// It could not even be tried: the guest is at fault, or the box's disk.
    Failed {
        /// The step that failed.
        step: String,
        /// Why.
        reason: String,
    },
    /// It ended. All its output has been sent before.
    Exited {
        /// How.
        status: ExitStatus,
    },
    /// Its time was up and it was killed, with everything it had started. What it had written was
    /// sent before.
    TimedOut,
    /// Main was started before, or was to be adopted and does not run; nothing was done.
    Conflict,
    /// The guest takes no session now; nothing was done.
    Declined(Decline),
}

/// Why a guest takes no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decline {
    /// Main has ended, or never ran, and the box ends.
    Leaving,
    /// As many run as it takes; of detached ones it takes fewer, so that they leave places for others.
    TooMany {
        /// That is how many, of detached ones when it was one.
        limit: u32,
    },
}

/// Whom a request on the control port is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Main.
    Main,
    /// The session on this stream. When it has ended meanwhile, nothing happens.
    Session(StreamId),
}

/// Requests on [`CONTROL_PORT`](crate::frame::CONTROL_PORT). Not on the streams they are about: there
/// they would wait behind input that nobody reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Send a signal: to main alone, which is held until main exists (contract G8); or to every
    /// process of a session (contract G4).
    Signal {
        /// Whose.
        target: Target,
        /// Which.
        signal: Signal,
    },
    /// Give a terminal another size.
    Resize {
        /// Whose.
        target: Target,
        /// Which.
        size: WindowSize,
    },
    /// From now on this session is detached.
    Release {
        /// The session's stream.
        stream: StreamId,
    },
    /// End main: `signal`, then KILL after `grace_ms` (contract G9).
    Stop {
        /// The first signal.
        signal: Signal,
        /// Milliseconds until KILL.
        grace_ms: u64,
    },
    /// Are you there?
    Ping {
        /// Repeated in the answer.
        nonce: u64,
    },
    /// Which processes run in the box?
    Processes {
        /// Repeated in the answer.
        nonce: u64,
    },
    /// The box is about to be captured: bring the disk to a state that is whole, say
    /// [`ControlReply::Held`], and be silent and deaf until a greeting or
    /// [`HostWord::Continue`](crate::preface::HostWord::Continue). Nothing may follow on the channel
    /// before one of those.
    Hold {
        /// Repeated in the answer.
        nonce: u64,
        /// To be told when this memory is reborn.
        mark: Mark,
    },
    /// The box stood still while time went on: its clock is late by this.
    SetClock {
        /// Nanoseconds to add.
        by_ns: i64,
    },
    /// Be heard of by yourself from now on: a [`ControlReply::Pong`] each time that so long has passed. What
    /// was asked for like this before is over.
    Beat {
        /// Repeated in each.
        nonce: u64,
        /// Milliseconds from one to the next; 0 for no more.
        every_ms: u64,
    },
}

/// What the guest says on [`CONTROL_PORT`](crate::frame::CONTROL_PORT).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    /// It is there.
    Pong {
        /// As asked.
        nonce: u64,
        /// What it has counted.
        counters: Counters,
    },
    /// Main has ended, every other process is gone, and the disk is flushed unless it was to be
    /// discarded: the VM may end.
    Left {
        /// What went wrong while flushing, if something did.
        flush_error: Option<String>,
        /// What it has counted.
        counters: Counters,
    },
    /// The processes of the box, by their ids.
    Processes {
        /// As asked.
        nonce: u64,
        /// At most [`MAX_PROCESSES`] of them.
        #[serde(deserialize_with = "bounded")]
        processes: Vec<ProcessInfo>,
        /// How many more there are.
        more: u32,
    },
    /// The last bytes on the channel before the guest hears a greeting, or that it goes on; unless there
    /// is a fault: then everything goes on at once.
    Held {
        /// As asked.
        nonce: u64,
        /// Why it can't be.
        fault: Option<String>,
    },
    /// A session has ended whose stream was aborted.
    SessionEnded {
        /// The stream that it has, or had.
        stream: StreamId,
        /// How: [`ProcessReply::Exited`] or [`ProcessReply::TimedOut`].
        end: ProcessReply,
    },
}

/// The most processes one answer lists.
pub const MAX_PROCESSES: usize = 1024;
/// A list from a guest: what is one too many is not even decoded.
fn bounded<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ProcessInfo>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<ProcessInfo>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_PROCESSES} processes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(one) = from.next_element()? {
                if list.len() == MAX_PROCESSES {
                    return Err(A::Error::invalid_length(MAX_PROCESSES + 1, &self));
                }
                list.push(one);
            }
            Ok(list)
        }
    }

    from.deserialize_seq(List)
}

/// The most bytes of a process's command line that are told.
pub const MAX_COMMAND: usize = 1024;

/// A process of a box, as proc(5) has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its id in the box.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// The name of its user in the image, or the number if it has none.
    pub user: Vec<u8>,
    /// Its state: a letter, such as `R` or `S`.
    pub state: u8,
    /// The number of its terminal in `/dev/pts`, if it has one.
    pub terminal: Option<u32>,
    /// Milliseconds since it started.
    pub age_ms: u64,
    /// Milliseconds of processor time it took.
    pub cpu_ms: u64,
    /// KiB of memory it has in use.
    pub rss_kib: u64,
    /// Its arguments, each followed by a NUL; or its name in brackets.
    pub command: Vec<u8>,
}

/// What a guest has counted since its restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Processes reaped that were neither main nor a session's own.
    pub orphans_reaped: u64,
    /// Sessions begun, main among them.
    pub sessions: u64,
    /// Processes that the guest's kernel had killed for want of memory when a child was last killed.
    pub oom_kills: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g5_one_process_too_many_is_not_decoded() {
        let answer = |count: usize| {
            let one = ProcessInfo {
                pid: 1,
                ppid: 0,
                user: Vec::new(),
                state: b'R',
                terminal: None,
                age_ms: 0,
                cpu_ms: 0,
                rss_kib: 0,
                command: Vec::new(),
            };
            let answer = ControlReply::Processes { nonce: 1, processes: vec![one; count], more: 0 };
            postcard::from_bytes::<ControlReply>(&postcard::to_allocvec(&answer).unwrap())
        };
        assert!(answer(MAX_PROCESSES).is_ok());
        assert!(answer(MAX_PROCESSES + 1).is_err());
    }
}
