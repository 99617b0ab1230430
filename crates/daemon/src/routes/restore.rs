//! `/v1/snapshots/{snapshot}/restore` and `/v1/boxes/{box}/fork`: boxes that go on where another one was
//! captured.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{Created, ErrorBody, ForkBox, Forked, RestoreSnapshot};
use boxwood_runtime::state::SnapshotPart;
use boxwood_runtime::{Fork, Held, RestoreRequest, Runtime, Started};
use http::StatusCode;

use crate::app::{App, while_wanted};
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, MaybeJson, Name};
use crate::routes::start::until_started;

/// Go on where a snapshot was captured, in a new box
///
/// Answered when it runs. When the client goes before, a box that was begun goes on all the same.
#[utoipa::path(
    post, path = "/v1/snapshots/{snapshot}/restore", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Its name")),
    request_body(content = Option<RestoreSnapshot>),
    responses(
        (status = 201, body = Created),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The name is taken, the image is not there, or the \
            snapshot can't go on on this host"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn restore(
    State(app): State<App>,
    Name(name): Name,
    MaybeJson(asked): MaybeJson<RestoreSnapshot>,
) -> Result<Response, ApiError> {
    let (request, part) = convert::restore(asked)?;
    while_wanted(move || async move {
        let runtime = &app.runtime;
        let snapshot = runtime.find_snapshot(&name)?;
        let held = match part {
            SnapshotPart::Everything => runtime.restore(&snapshot, &request).await?,
            SnapshotPart::Disk => runtime.restore_disk(&snapshot, &request).await?,
        };
        let (created, started) = begin(held, runtime)?;
        until_started(started).await?;
        Ok((StatusCode::CREATED, Json(created)).into_response())
    })
    .await
}

/// Multiply a running box: each new one goes on where it is, and it goes on, too
///
/// Answered when they run. One that fails is the error; of several, those that run and those that do not are
/// in the answer.
#[utoipa::path(
    post, path = "/v1/boxes/{box}/fork", tag = "snapshots",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    request_body(content = Option<ForkBox>),
    responses(
        (status = 201, body = Forked),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not run, or the name is taken"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn fork(
    State(app): State<App>,
    Name(name): Name,
    MaybeJson(asked): MaybeJson<ForkBox>,
) -> Result<Response, ApiError> {
    let requests = convert::fork(asked)?;
    while_wanted(move || async move {
        let runtime = &app.runtime;
        let fork = runtime.fork(&runtime.find(&name)?).await?;
        if let [request] = &*requests {
            let (created, started) = child(&fork, request, runtime)?;
            until_started(started).await?;
            let forked = Forked { boxes: vec![created], failures: Vec::new() };
            return Ok((StatusCode::CREATED, Json(forked)).into_response());
        }
        let forked = children(&fork, &requests, runtime).await;
        Ok((StatusCode::CREATED, Json(forked)).into_response())
    })
    .await
}

/// They start at the same time, and are told in order.
async fn children(fork: &Fork, requests: &[RestoreRequest], runtime: &Runtime) -> Forked {
    let mut forked = Forked::default();
    let mut starting = Vec::new();
    for request in requests {
        match child(fork, request, runtime) {
            Ok(child) => starting.push(child),
            Err(error) => forked.failures.push(error.into()),
        }
    }
    for (created, started) in starting {
        match until_started(started).await {
            Ok(()) => forked.boxes.push(created),
            Err(error) => forked.failures.push(error.into()),
        }
    }
    forked
}

fn child(
    fork: &Fork,
    request: &RestoreRequest,
    runtime: &Runtime,
) -> Result<(Created, Started), ApiError> {
    begin(runtime.fork_child(fork, request)?, runtime)
}

fn begin(held: Held, runtime: &Runtime) -> Result<(Created, Started), ApiError> {
    let spec = held.spec();
    let created = Created { id: spec.id.to_string(), name: spec.name.to_string() };
    Ok((created, held.start(runtime)?))
}
