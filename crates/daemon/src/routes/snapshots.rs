//! `/v1/snapshots`: made, listed, checked, removed. What carries them is in `carry`, what goes on from
//! them in `restore`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{CreateSnapshot, ErrorBody, SnapshotInfo, SnapshotList};
use boxwood_types::chain;
use http::StatusCode;

use crate::app::{App, blocking, while_wanted};
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, Name};

/// Capture a box: its memory, its processes, its disk
///
/// The box goes on. When the client goes before the answer, nothing is kept.
#[utoipa::path(
    post, path = "/v1/boxes/{box}/snapshot", tag = "snapshots",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    request_body = CreateSnapshot,
    responses(
        (status = 201, body = SnapshotInfo),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The name is taken, the box is in no state for \
            it, or was captured too often"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn capture(
    State(app): State<App>,
    Name(name): Name,
    Json(asked): Json<CreateSnapshot>,
) -> Result<Response, ApiError> {
    let (own, part) = convert::capture(&asked)?;
    while_wanted(move || async move {
        let listed = app.runtime.find(&name)?;
        let snapshot = app.runtime.snapshot(&listed, &own, part).await?;
        Ok((StatusCode::CREATED, Json(convert::snapshot(&snapshot))).into_response())
    })
    .await
}

/// List snapshots, oldest first
#[utoipa::path(
    get, path = "/v1/snapshots", tag = "snapshots",
    responses((status = 200, body = SnapshotList)))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<SnapshotList>, ApiError> {
    blocking(move || {
        let mut warnings = Vec::new();
        let found = app.runtime.snapshots(&mut |error| warnings.push(chain(&error)))?;
        let snapshots = found.iter().map(convert::snapshot).collect();
        Ok(Json(SnapshotList { snapshots, warnings }))
    })
    .await
}

/// Look at a snapshot
#[utoipa::path(
    get, path = "/v1/snapshots/{snapshot}", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Its name")),
    responses((status = 200, body = SnapshotInfo), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(app): State<App>,
    Name(name): Name,
) -> Result<Json<SnapshotInfo>, ApiError> {
    blocking(move || Ok(Json(convert::snapshot(&app.runtime.find_snapshot(&name)?)))).await
}

/// Read all of a snapshot and compare it with what was captured
#[utoipa::path(
    post, path = "/v1/snapshots/{snapshot}/verify", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Its name")),
    responses(
        (status = 204, description = "It is what was captured, and can go on here"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It is damaged, or whole and can't go on on \
            this host")))]
pub(crate) async fn verify(
    State(app): State<App>,
    Name(name): Name,
) -> Result<StatusCode, ApiError> {
    while_wanted(move || async move {
        let snapshot = app.runtime.find_snapshot(&name)?;
        app.runtime.verify_snapshot(&snapshot).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Remove a snapshot
///
/// Boxes that were restored from it run on.
#[utoipa::path(
    delete, path = "/v1/snapshots/{snapshot}", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Its name")),
    responses((status = 204, description = "It is gone"), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    Name(name): Name,
) -> Result<StatusCode, ApiError> {
    blocking(move || {
        app.runtime.remove_snapshot(&name)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
