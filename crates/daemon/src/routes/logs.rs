//! `/v1/boxes/{box}/logs`: what main wrote, and what it writes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{ErrorBody, Logs};
use http::{HeaderValue, Version, header};
use http_body_util::channel::Channel;

use crate::app::{App, blocking};
use crate::error::ApiError;
use crate::extract::{Name, Query};
use crate::follow::{self, Lines};

/// Pieces that wait for a client.
const WAITING: usize = 1;

/// Read what a box's command wrote
///
/// The body consists of frames, as docs/rest.md has them: kind 5 is standard output, 6 standard error.
#[utoipa::path(
    get, path = "/v1/boxes/{box}/logs", tag = "boxes",
    params(
        ("box" = String, Path, description = "Name, ID, or the beginning of an ID"),
        Logs),
    responses(
        (status = 200, content_type = "application/vnd.boxwood.frames", body = Vec<u8>),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "The daemon is about to end")))]
pub(crate) async fn logs(
    State(app): State<App>,
    Name(name): Name,
    Query(asked): Query<Logs>,
    version: Version,
) -> Result<Response, ApiError> {
    follow::check_version(version)?;
    let request = follow::logs_request(&asked)?;
    let listed = app.find(name).await?;
    if app.ending.said.is_cancelled() {
        return Err(ApiError::stopping());
    }
    let runtime = Arc::clone(&app.runtime);
    let logs = blocking(move || Ok(runtime.logs(&listed, request)?)).await?;
    let lines = Lines::of(&asked);
    let (sender, body) = Channel::new(WAITING);
    app.ending.tasks.spawn(follow::send(app.ending.clone(), sender, async |body| {
        follow::send_log(logs, lines, body).await
    }));
    let kind = HeaderValue::from_static(boxwood_api::FRAMES);
    Ok(([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response())
}
