//! `/v1/boxes/{box}/exec` and `/v1/exec`: commands beside a box's own.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{
    CreateExec, ErrorBody, ErrorKind, ExecCreated, ExecInfo, SignalExec, TerminalSize,
};
use boxwood_runtime::state::control::{Reply, SessionAct};
use boxwood_runtime::{ExecRequest, FromShim, Session};
use boxwood_types::BoxId;
use http::StatusCode;
use hyper::upgrade::OnUpgrade;

use crate::app::App;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, Name, Upgrade};
use crate::routes::switching;
use crate::stream::{Parting, Stream};

/// Describe a command to be run in a box
///
/// It is started by `/v1/exec/{exec}/start`. Of those that were not started only the last ones are kept.
#[utoipa::path(
    post, path = "/v1/boxes/{box}/exec", tag = "exec", request_body = CreateExec,
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 201, body = ExecCreated),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The box does not run"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    Name(name): Name,
    Json(asked): Json<CreateExec>,
) -> Result<Response, ApiError> {
    let request = convert::exec(asked)?;
    let listed = app.find(name).await?;
    if !listed.record.state.is_live() {
        let message = format!("box {} is {}", listed.spec.id.short(), listed.record.state);
        return Err(ApiError::wrong_state(format!(
            "{message}: it is not running; see 'boxwood start'"
        )));
    }
    let id = app.execs.add(listed.spec.id, request)?;
    Ok((StatusCode::CREATED, Json(ExecCreated { id })).into_response())
}

/// Start a command
///
/// The connection becomes its standard streams, and the command ends with it; see docs/rest.md. One
/// that is detached is answered when it runs.
#[utoipa::path(
    post, path = "/v1/exec/{exec}/start", tag = "exec",
    params(("exec" = String, Path, description = "Its ID")),
    responses(
        (status = 101, description = "The connection is a stream now"),
        (status = 204, description = "It runs, detached"),
        (status = 400, body = ErrorBody, description = "It can't be started"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It was started, or its box does not run"),
        (status = 426, body = ErrorBody)))]
pub(crate) async fn start(
    State(app): State<App>,
    Name(id): Name,
    Upgrade(upgrade): Upgrade,
) -> Result<Response, ApiError> {
    if app.ending.said.is_cancelled() {
        return Err(ApiError::stopping());
    }
    let upgrade = match (app.execs.is_detached(&id)?, upgrade) {
        (true, _) => None,
        (false, Some(upgrade)) => Some(upgrade),
        (false, None) => {
            let stream = boxwood_api::STREAM;
            let message = format!(
                "send 'Connection: upgrade' and 'Upgrade: {stream}', or describe the command with \
                 \"detach\": true"
            );
            let status = StatusCode::UPGRADE_REQUIRED;
            return Err(ApiError::new(status, ErrorKind::UpgradeRequired, message));
        }
    };
    let (box_id, request) = app.execs.take(&id)?;
    let session = match ask(&app, &box_id, &request).await {
        Ok(session) => session,
        Err(error) => {
            app.execs.ended(&id, convert::exec_lost("failed"));
            return Err(error);
        }
    };
    match upgrade {
        Some(upgrade) => {
            let tasks = app.ending.tasks.clone();
            tasks.spawn(live_with(app, id, session, upgrade));
            Ok(switching())
        }
        None => until_started(&app, &id, session).await,
    }
}

async fn ask(app: &App, box_id: &BoxId, request: &ExecRequest) -> Result<Session, ApiError> {
    let listed = app.find(box_id.to_string()).await?;
    Ok(app.runtime.exec(&listed, request).await?)
}

/// Carries the command's streams. When this returns, however it does, an attached command is ended:
/// its client is gone (contract G6).
async fn live_with(app: App, id: String, session: Session, upgrade: OnUpgrade) {
    let Session { mut reader, mut writer } = session;
    let Ok(stream) = Stream::of(upgrade).await else {
        return app.execs.ended(&id, convert::exec_lost("client_gone"));
    };
    let mut heard = |reply: &Reply| {
        if let Reply::SessionStarted { session } = reply {
            app.execs.runs(&id, *session);
        }
    };
    let parting = stream.carry(&mut reader, &mut writer, &app.ending.due, &mut heard).await;
    let end = match parting {
        Parting::Told(Reply::SessionEnded { end }) => convert::exec_end(&end),
        Parting::Told(Reply::Ended { exit, .. }) => convert::exec_bereaved(&exit),
        Parting::Told(_) | Parting::HungUp => convert::exec_lost("failed"),
        Parting::ClientGone | Parting::Due => convert::exec_lost("client_gone"),
    };
    app.execs.ended(&id, end);
}

/// Waits until a detached command runs.
async fn until_started(app: &App, id: &str, session: Session) -> Result<Response, ApiError> {
    let mut session = session;
    let end = match session.reader.next().await? {
        Some(FromShim::Reply(Reply::SessionStarted { session })) => {
            app.execs.released(id, session);
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Some(FromShim::Reply(Reply::SessionEnded { end })) => convert::exec_end(&end),
        Some(FromShim::Reply(Reply::Ended { exit, .. })) => convert::exec_bereaved(&exit),
        _ => convert::exec_lost("failed"),
    };
    let message = end.message.clone().unwrap_or_else(|| end.reason.clone());
    let error = match end.code {
        126 | 127 => ApiError::new(StatusCode::CONFLICT, ErrorKind::NotStarted, message),
        _ => ApiError::wrong_state(message),
    };
    app.execs.ended(id, end);
    Err(error)
}

/// Look at a command
#[utoipa::path(
    get, path = "/v1/exec/{exec}", tag = "exec",
    params(("exec" = String, Path, description = "Its ID")),
    responses((status = 200, body = ExecInfo), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(app): State<App>,
    Name(id): Name,
) -> Result<Json<ExecInfo>, ApiError> {
    Ok(Json(app.execs.info(&id)?))
}

/// Send a signal to every process of a command
#[utoipa::path(
    post, path = "/v1/exec/{exec}/signal", tag = "exec", request_body = SignalExec,
    params(("exec" = String, Path, description = "Its ID")),
    responses(
        (status = 204, description = "It was handed on"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not run"),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn signal(
    State(app): State<App>,
    Name(id): Name,
    Json(asked): Json<SignalExec>,
) -> Result<StatusCode, ApiError> {
    let signal = asked.signal.parse().map_err(|error| ApiError::bad(format!("{error}")))?;
    act(&app, &id, SessionAct::Signal(signal)).await.map(|_| StatusCode::NO_CONTENT)
}

/// Give the terminal of a command another size
#[utoipa::path(
    post, path = "/v1/exec/{exec}/resize", tag = "exec", request_body = TerminalSize,
    params(("exec" = String, Path, description = "Its ID")),
    responses(
        (status = 204, description = "It was handed on"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not run"),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn resize(
    State(app): State<App>,
    Name(id): Name,
    Json(size): Json<TerminalSize>,
) -> Result<StatusCode, ApiError> {
    let act = act(&app, &id, SessionAct::Resize(convert::size(size)));
    act.await.map(|_| StatusCode::NO_CONTENT)
}

/// Let a command go on when its stream ends
#[utoipa::path(
    post, path = "/v1/exec/{exec}/release", tag = "exec",
    params(("exec" = String, Path, description = "Its ID")),
    responses(
        (status = 204, description = "It goes on"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not run")))]
pub(crate) async fn release(
    State(app): State<App>,
    Name(id): Name,
) -> Result<StatusCode, ApiError> {
    let session = act(&app, &id, SessionAct::Release).await?;
    app.execs.released(&id, session);
    Ok(StatusCode::NO_CONTENT)
}

async fn act(app: &App, id: &str, act: SessionAct) -> Result<u32, ApiError> {
    let (box_id, session) = app.execs.session(id)?;
    let listed = app.find(box_id.to_string()).await?;
    app.runtime.act(&listed.dir, session, act).await?;
    Ok(session)
}
