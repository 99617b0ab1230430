//! `/v1/events`: what happens to boxes, as it happens.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{ErrorBody, ListEvents};
use http::{HeaderValue, Version, header};
use http_body_util::channel::Channel;

use crate::app::{App, blocking};
use crate::error::ApiError;
use crate::extract::Query;
use crate::follow;

/// Pieces that wait for a client.
const WAITING: usize = 1;

/// Hear what happens to boxes
///
/// The body consists of lines, each an event in Docker's words. It goes on until `until`, or for ever.
#[utoipa::path(
    get, path = "/v1/events", tag = "boxes", params(ListEvents),
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String),
        (status = 400, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "The daemon is about to end")))]
pub(crate) async fn events(
    State(app): State<App>,
    Query(asked): Query<ListEvents>,
    version: Version,
) -> Result<Response, ApiError> {
    follow::check_version(version)?;
    let request = follow::events_request(&asked)?;
    if app.ending.said.is_cancelled() {
        return Err(ApiError::stopping());
    }
    let runtime = Arc::clone(&app.runtime);
    let events = blocking(move || Ok(runtime.events(request)?)).await?;
    let (sender, body) = Channel::new(WAITING);
    app.ending.tasks.spawn(follow::send(app.ending.clone(), sender, async |body| {
        follow::send_events(events, body).await
    }));
    let kind = HeaderValue::from_static(boxwood_api::LINES);
    Ok(([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response())
}
