//! One file per resource: parse, call the runtime, map what it says; nothing else. `openapi` collects
//! them.

pub(crate) mod actions;
pub(crate) mod attach;
pub(crate) mod boxes;
pub(crate) mod carry;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod pool;
pub(crate) mod prune;
pub(crate) mod restore;
pub(crate) mod snapshots;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod templates;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// The answer that lets a connection become a stream.
fn switching() -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(boxwood_api::STREAM));
    response
}
