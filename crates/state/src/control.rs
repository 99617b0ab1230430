//! What a shim and its clients say to each other over a box's control socket.
//!
//! The frames are those of [`boxwood_wire::frame`]; requests and replies are JSON, so that a client
//! of another version finds what it knows and passes over what it does not. A connection begins with
//! one [`Request`]. A client is another process of the same user; it is not trusted with lengths.

use boxwood_types::{BoxState, Signal};
use boxwood_wire::frame::{self, FrameError, Kind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ExitRecord;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Tell me when the box has ended.
    Wait,
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
    /// The box has ended and nothing of it runs any more.
    Ended {
        /// How.
        exit: ExitRecord,
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
