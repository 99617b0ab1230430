//! What the daemon says when it did not do what was asked.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Exit;

/// The body of every answer that is no success.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What happened.
    pub error: Problem,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// For programs. New kinds may come.
    pub kind: ErrorKind,
    /// For people, in one line.
    pub message: String,
    /// How the box ended, where that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

/// What an error means for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is wrong and will stay so.
    BadRequest,
    /// The token is missing or wrong.
    Unauthorized,
    /// There is no such thing.
    NotFound,
    /// The resource has no such verb.
    MethodNotAllowed,
    /// The request took too long to arrive.
    RequestTimeout,
    /// The box is not in a state for it.
    WrongState,
    /// The name is taken, or the thing is in use.
    Conflict,
    /// The idempotency key came with another request before.
    KeyReused,
    /// The body is larger than it may be.
    TooLarge,
    /// The body is not what this resource takes.
    UnsupportedMediaType,
    /// This is answered to a connection that asks to be upgraded.
    UpgradeRequired,
    /// The answer has no length, and HTTP/1.0 could not tell one that breaks off from a whole one.
    VersionNotSupported,
    /// The box's command can't be executed or was not found.
    NotStarted,
    /// The box did not answer in time; nobody knows what it does.
    NoAnswer,
    /// The box has ended as `exit` says, which could not be written down: later answers take it for unknown.
    EndUnwritten,
    /// The daemon is about to end.
    Stopping,
    /// The host or Boxwood failed.
    Internal,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}
