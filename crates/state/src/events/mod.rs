//! What happens to boxes, as news: Docker's events, in a journal that every home has.
//!
//! Whoever makes a transition writes it down first and then appends its event here. The journal is news
//! and no truth: it is bounded, and nothing is decided by it.

mod cursor;
mod journal;

use std::collections::BTreeMap;
use std::fmt;

use boxwood_types::Signal;
use serde::{Deserialize, Serialize};

pub use cursor::Cursor;
pub use journal::{Appender, Journal};

use crate::BoxSpec;
use crate::clock::Moment;

/// One piece of news, in Docker's fields. As it is on disk: plain, and not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `container`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened: see [`Action`].
    #[serde(rename = "Action")]
    pub action: String,
    /// To whom.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    pub scope: String,
    /// When, in seconds since 1970.
    pub time: u64,
    /// When, in nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: u64,
}

/// Whom an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The box's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its labels, image and name, and what belongs to the action.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// What can happen to a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It exists.
    Create,
    /// Main runs.
    Start,
    /// The box has ended, however.
    Die {
        /// The exit code Docker would show.
        code: u8,
        /// How long main ran, in seconds.
        ran: u64,
    },
    /// It has ended because somebody stopped it.
    Stop,
    /// Main was sent a signal.
    Kill(Signal),
    /// It was captured, and goes on.
    Checkpoint,
    /// It stands still.
    Pause,
    /// It goes on.
    Unpause,
    /// Somebody stopped it and started it again.
    Restart,
    /// It has another name.
    Rename {
        /// The one it had.
        old: String,
    },
    /// It is gone.
    Destroy,
    /// It ran out of memory.
    Oom,
    /// A command was asked for, with this number.
    ExecCreate(u32, String),
    /// It runs.
    ExecStart(u32, String),
    /// It has ended.
    ExecDie(u32, u8),
    /// Its health is another.
    Health(&'static str),
    /// Somebody has main's streams, too.
    Attach,
    /// Somebody has left them.
    Detach,
    /// It is to be something else.
    Update,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Create => "create",
            Action::Start => "start",
            Action::Die { .. } => "die",
            Action::Stop => "stop",
            Action::Kill(_) => "kill",
            Action::Checkpoint => "checkpoint",
            Action::Pause => "pause",
            Action::Unpause => "unpause",
            Action::Restart => "restart",
            Action::Rename { .. } => "rename",
            Action::Destroy => "destroy",
            Action::Oom => "oom",
            Action::ExecCreate(_, command) => return write!(f, "exec_create: {command}"),
            Action::ExecStart(_, command) => return write!(f, "exec_start: {command}"),
            Action::ExecDie(..) => "exec_die",
            Action::Health(status) => return write!(f, "health_status: {status}"),
            Action::Attach => "attach",
            Action::Detach => "detach",
            Action::Update => "update",
        })
    }
}

impl Action {
    fn attributes(&self) -> Vec<(&'static str, String)> {
        match self {
            Action::Die { code, ran } => {
                vec![("exitCode", code.to_string()), ("execDuration", ran.to_string())]
            }
            Action::Kill(signal) => vec![("signal", signal.number().to_string())],
            Action::Rename { old } => vec![("oldName", format!("/{old}"))],
            Action::ExecCreate(session, _) | Action::ExecStart(session, _) => {
                vec![("execID", session.to_string())]
            }
            Action::ExecDie(session, code) => {
                vec![("execID", session.to_string()), ("exitCode", code.to_string())]
            }
            _ => Vec::new(),
        }
    }
}

impl Event {
    /// It has just happened to this box.
    pub fn now(spec: &BoxSpec, action: &Action) -> Event {
        let now = Moment::now();
        let own = [("image", spec.image.name.clone()), ("name", spec.name.to_string())];
        let mut attributes = spec.labels.clone();
        let more = own.into_iter().chain(action.attributes());
        attributes.extend(more.map(|(name, value)| (name.to_owned(), value)));
        Event {
            kind: "container".to_owned(),
            action: action.to_string(),
            actor: Actor { id: spec.id.to_string(), attributes },
            scope: "local".to_owned(),
            time: now.0 / 1_000_000_000,
            time_nano: now.0,
        }
    }
}
