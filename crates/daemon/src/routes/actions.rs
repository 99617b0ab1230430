//! What a box can be told: `/v1/boxes/{box}/stop` and so on. Starting is in `start`.

use std::time::Duration;

use axum::extract::State;
use boxwood_api::{
    Ended, ErrorBody, KillBox, RenameBox, StopBox, TerminalSize, UpdateBox, WaitBox,
};
use boxwood_types::{BoxName, Signal};
use http::StatusCode;

use crate::app::{App, blocking, to_the_end};
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, MaybeJson, Name, Query};

type Done = Result<StatusCode, ApiError>;

/// Stop a box: its stop signal, its time, SIGKILL
///
/// Answered when it has ended; at once for one that does not run.
#[utoipa::path(
    post, path = "/v1/boxes/{box}/stop", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    request_body(content = Option<StopBox>),
    responses(
        (status = 204, description = "It does not run any more"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "It did not end")))]
pub(crate) async fn stop(
    State(app): State<App>,
    Name(name): Name,
    MaybeJson(how): MaybeJson<StopBox>,
) -> Done {
    let signal = convert::signal(how.signal.as_deref())?;
    let grace_ms = how.timeout_ms.map(convert::milliseconds).transpose()?;
    let listed = app.find(name).await?;
    app.runtime.stop(&listed, signal, grace_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a signal to a box's command: SIGKILL unless told otherwise
#[utoipa::path(
    post, path = "/v1/boxes/{box}/kill", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    request_body(content = Option<KillBox>),
    responses(
        (status = 204, description = "It was handed on; for SIGKILL, the box has ended"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not run"),
        (status = 415, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn kill(
    State(app): State<App>,
    Name(name): Name,
    MaybeJson(how): MaybeJson<KillBox>,
) -> Done {
    let signal = convert::signal(how.signal.as_deref())?.unwrap_or(Signal::KILL);
    let listed = app.find(name).await?;
    app.runtime.kill(&listed, signal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a box stand still, with everything in it
#[utoipa::path(
    post, path = "/v1/boxes/{box}/pause", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 204, description = "It stands still"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not run")))]
pub(crate) async fn pause(State(app): State<App>, Name(name): Name) -> Done {
    let listed = app.find(name).await?;
    app.runtime.pause(&listed).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a paused box go on
#[utoipa::path(
    post, path = "/v1/boxes/{box}/unpause", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 204, description = "It goes on"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It is not paused")))]
pub(crate) async fn unpause(State(app): State<App>, Name(name): Name) -> Done {
    let listed = app.find(name).await?;
    app.runtime.unpause(&listed).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Wait until a box has ended, or until time is up
#[utoipa::path(
    get, path = "/v1/boxes/{box}/wait", tag = "boxes",
    params(
        ("box" = String, Path, description = "Name, ID, or the beginning of an ID"),
        WaitBox),
    responses(
        (status = 200, body = Ended),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It was never started"),
        (status = 503, body = ErrorBody, description = "The daemon is about to end")))]
pub(crate) async fn wait(
    State(app): State<App>,
    Name(name): Name,
    Query(how): Query<WaitBox>,
) -> Result<Json<Ended>, ApiError> {
    let within = how.timeout_ms.map(convert::milliseconds).transpose()?;
    let within = Duration::from_millis(within.unwrap_or(convert::MAX_MS));
    let listed = app.find(name).await?;
    tokio::select! {
        ended = tokio::time::timeout(within, app.runtime.wait(listed)) => match ended {
            Ok(exit) => Ok(Json(Ended { exit: Some(convert::exit(&exit?)) })),
            Err(_) => Ok(Json(Ended { exit: None })),
        },
        () = app.ending.said.cancelled() => Err(ApiError::stopping()),
    }
}

/// Give a box another name
#[utoipa::path(
    post, path = "/v1/boxes/{box}/rename", tag = "boxes", request_body = RenameBox,
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 204, description = "It has the name"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Another box has the name"),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn rename(
    State(app): State<App>,
    Name(name): Name,
    Json(asked): Json<RenameBox>,
) -> Done {
    let to: BoxName = asked.name.parse().map_err(|error| ApiError::bad(format!("{error}")))?;
    blocking(move || {
        let listed = app.runtime.find(&name)?;
        app.runtime.rename(&listed, &to)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Change what a box is to be from now on, whether it runs or not
#[utoipa::path(
    post, path = "/v1/boxes/{box}/update", tag = "boxes", request_body = UpdateBox,
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 204, description = "It is so"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not fit the box"),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn update(
    State(app): State<App>,
    Name(name): Name,
    Json(asked): Json<UpdateBox>,
) -> Done {
    let request = convert::update(asked)?;
    to_the_end(move || async move {
        app.runtime.update(&app.runtime.find(&name)?, &request).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Give the terminal of a box's command another size
#[utoipa::path(
    post, path = "/v1/boxes/{box}/resize", tag = "boxes", request_body = TerminalSize,
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 204, description = "It was handed on"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn resize(
    State(app): State<App>,
    Name(name): Name,
    Json(size): Json<TerminalSize>,
) -> Done {
    let listed = app.find(name).await?;
    app.runtime.resize(&listed.dir, convert::size(size)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a box stay when the client goes that it was started for
#[utoipa::path(
    post, path = "/v1/boxes/{box}/release", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 204, description = "It stays"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)))]
pub(crate) async fn release(State(app): State<App>, Name(name): Name) -> Done {
    let listed = app.find(name).await?;
    app.runtime.release(&listed.dir).await?;
    Ok(StatusCode::NO_CONTENT)
}
