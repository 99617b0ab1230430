//! What goes on, as a body: a box's log, what it takes, and events. Nothing is read ahead of what the client
//! takes, but for one piece. Called by `routes::logs`, `routes::stats` and `routes::events`.

use std::io;

use boxwood_api::{ErrorKind, ListEvents, Logs as Asked};
use boxwood_runtime::state::log::{Entry, Stream};
use boxwood_runtime::{Events, EventsRequest, Logs, LogsRequest};
use boxwood_wire::frame::{self, Kind};
use http::{StatusCode, Version};
use http_body_util::channel::Sender;
use hyper::body::Bytes;

use crate::app::Ending;
use crate::convert;
use crate::error::ApiError;
use crate::stream::bytes_frame;

/// Why a body ends before its time: the client is not told that it is whole.
pub(crate) type Cut = io::Error;

/// Lets a request pass whose client can tell a body that breaks off from a whole one: in HTTP/1.0 both end with
/// the connection.
pub(crate) fn check_version(version: Version) -> Result<(), ApiError> {
    if version >= Version::HTTP_11 {
        return Ok(());
    }
    let message =
        "the answer has no length, and HTTP/1.0 can't tell whether it is whole: ask by HTTP/1.1";
    let (status, kind) = (StatusCode::HTTP_VERSION_NOT_SUPPORTED, ErrorKind::VersionNotSupported);
    Err(ApiError::new(status, kind, message))
}

/// Which part of a log.
pub(crate) fn logs_request(asked: &Asked) -> Result<LogsRequest, ApiError> {
    Ok(LogsRequest {
        since: asked.since.as_deref().map(convert::moment).transpose()?,
        until: asked.until.as_deref().map(convert::moment).transpose()?,
        tail: asked.tail.map(lines).transpose()?,
        follow: asked.follow,
    })
}

/// A number of lines, of which no log has more.
fn lines(asked: u64) -> Result<u64, ApiError> {
    match asked {
        0..=1_000_000_000_000 => Ok(asked),
        _ => Err(ApiError::bad("a tail has at most 1000000000000 lines")),
    }
}

/// Which events.
pub(crate) fn events_request(asked: &ListEvents) -> Result<EventsRequest, ApiError> {
    let filters = asked.filter.iter().map(|text| text.parse());
    Ok(EventsRequest {
        since: asked.since.as_deref().map(convert::moment).transpose()?,
        until: asked.until.as_deref().map(convert::moment).transpose()?,
        filters: filters.collect::<Result<_, String>>().map_err(ApiError::bad)?,
    })
}

/// Sends what there is to be sent, until the client goes or the daemon is to end.
pub(crate) async fn send(
    ending: Ending,
    body: Sender<Bytes, Cut>,
    pieces: impl AsyncFnOnce(&mut Sender<Bytes, Cut>) -> io::Result<()>,
) {
    let mut body = body;
    let sent = tokio::select! {
        sent = pieces(&mut body) => sent,
        () = ending.said.cancelled() => Err(gone()),
    };
    if let Err(error) = sent {
        body.abort(error);
    }
}

/// Sends a log as frames.
pub(crate) async fn send_log(
    mut logs: Logs,
    mut lines: Lines,
    body: &mut Sender<Bytes, Cut>,
) -> io::Result<()> {
    while let Some(entry) = logs.next().await.map_err(io::Error::other)? {
        body.send_data(lines.frames(&entry).into()).await.map_err(|_| gone())?;
    }
    Ok(())
}

/// Sends events, a line each.
pub(crate) async fn send_events(
    mut events: Events,
    body: &mut Sender<Bytes, Cut>,
) -> io::Result<()> {
    while let Some(event) = events.next().await.map_err(io::Error::other)? {
        let mut line = serde_json::to_vec(&event).expect("plain data always encodes");
        line.push(b'\n');
        body.send_data(line.into()).await.map_err(|_| gone())?;
    }
    Ok(())
}

/// The client or the daemon.
pub(crate) fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Whether each stream is in the middle of a line, and what lines begin with.
#[derive(Debug)]
pub(crate) enum Lines {
    /// As they are.
    Plain,
    /// With their times.
    Stamped([bool; 2]),
}

impl Lines {
    /// As a client asks for them.
    pub(crate) fn of(asked: &Asked) -> Self {
        if asked.timestamps { Lines::Stamped([false; 2]) } else { Lines::Plain }
    }

    /// A piece as frames.
    fn frames(&mut self, entry: &Entry) -> Vec<u8> {
        let kind = if entry.stream == Stream::Stdout { Kind::Stdout } else { Kind::Stderr };
        let bytes = match self {
            Lines::Plain => entry.bytes.clone(),
            Lines::Stamped(in_line) => {
                stamped(entry, &mut in_line[usize::from(entry.stream == Stream::Stderr)])
            }
        };
        bytes.chunks(frame::MAX_BYTES).flat_map(|chunk| bytes_frame(kind, chunk)).collect()
    }
}

fn stamped(entry: &Entry, in_line: &mut bool) -> Vec<u8> {
    let time = convert::rfc3339(entry.time);
    let mut text = Vec::with_capacity(entry.bytes.len() + 32);
    for line in entry.bytes.split_inclusive(|byte| *byte == b'\n') {
        if !*in_line {
            text.extend_from_slice(time.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(line);
        *in_line = !line.ends_with(b"\n");
    }
    text
}
