//! `/v1/boxes/{box}/start` and `restart`: a box runs again, with its disk as it was; with its client's
//! connection as main's standard streams, if the client asks for that.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{ErrorBody, StopBox};
use boxwood_runtime::state::control::Reply;
use boxwood_runtime::state::{AfterExit, Client};
use boxwood_runtime::{FromShim, Runtime, Started};
use http::StatusCode;
use hyper::upgrade::OnUpgrade;

use crate::app::{App, Ending, to_the_end};
use crate::convert;
use crate::error::ApiError;
use crate::extract::{MaybeJson, Name, Upgrade};
use crate::routes::switching;
use crate::stream::Stream;

/// Start a box
///
/// Answered when its command runs. With `Upgrade: boxwood-stream` the connection becomes the command's
/// standard streams, and the box is stopped when the connection ends; see docs/rest.md.
#[utoipa::path(
    post, path = "/v1/boxes/{box}/start", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 101, description = "The connection is a stream now"),
        (status = 204, description = "Its command runs"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It runs already, or its command can't be executed")))]
pub(crate) async fn start(
    State(app): State<App>,
    Name(name): Name,
    Upgrade(upgrade): Upgrade,
) -> Result<Response, ApiError> {
    match upgrade {
        None => {
            to_the_end(move || async move { again(&app.runtime, &name).await }).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Some(upgrade) => attached(app, name, upgrade).await,
    }
}

async fn attached(app: App, name: String, upgrade: OnUpgrade) -> Result<Response, ApiError> {
    if app.ending.said.is_cancelled() {
        return Err(ApiError::stopping());
    }
    let runtime = app.runtime.clone();
    let started = to_the_end(move || async move {
        let held = runtime.hold_again(&name, Client::Attached, &mut |_| {}).await?;
        Ok(held.start(&runtime)?)
    })
    .await?;
    let tasks = app.ending.tasks.clone();
    tasks.spawn(live_with(app, started, upgrade));
    Ok(switching())
}

/// Carries main's streams. When this returns, however it does, the box is stopped: its client is gone
/// (contract H7).
async fn live_with(app: App, started: Started, upgrade: OnUpgrade) {
    let mut started = started;
    let Started { dir, reader, writer, .. } = &mut started;
    let id = dir.id().clone();
    let Ok(stream) = Stream::of(upgrade).await else { return };
    let Ending { said, due, .. } = &app.ending;
    // The daemon ends: so does what lives by it, while its client still hears of it (contract H8).
    let stop = async {
        said.cancelled().await;
        if let Ok(listed) = app.find(id.to_string()).await {
            let _ = app.runtime.stop(&listed, None, None).await;
        }
        std::future::pending().await
    };
    let mut heard = |_: &Reply| {};
    tokio::select! {
        _ = stream.carry(reader, writer, due, &mut heard) => {}
        () = stop => {}
    }
}

/// Restart a box: stop it, if it runs, and start it with its disk as it was
#[utoipa::path(
    post, path = "/v1/boxes/{box}/restart", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    request_body(content = Option<StopBox>),
    responses(
        (status = 204, description = "Its command runs"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "It did not end")))]
pub(crate) async fn restart(
    State(app): State<App>,
    Name(name): Name,
    MaybeJson(how): MaybeJson<StopBox>,
) -> Result<StatusCode, ApiError> {
    let signal = convert::signal(how.signal.as_deref())?;
    let grace_ms = how.timeout_ms.map(convert::milliseconds).transpose()?;
    to_the_end(move || async move {
        let listed = app.runtime.find(&name)?;
        if listed.spec.after_exit == AfterExit::Remove {
            let message = "it is removed when it has ended, so it can't be restarted";
            return Err(ApiError::wrong_state(message));
        }
        app.runtime.stop(&listed, signal, grace_ms).await?;
        again(&app.runtime, listed.spec.id.as_str()).await?;
        app.runtime.announce_restart(&listed.spec);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Starts a box that does not run, for nobody, and waits until its command does.
pub(crate) async fn again(runtime: &Runtime, name: &str) -> Result<(), ApiError> {
    let held = runtime.hold_again(name, Client::Detached, &mut |_| {}).await?;
    until_started(held.start(runtime)?).await
}

/// Waits until main runs.
pub(crate) async fn until_started(started: Started) -> Result<(), ApiError> {
    let Started { mut reader, dir, .. } = started;
    loop {
        match reader.next().await? {
            Some(FromShim::Reply(Reply::Started { .. })) => return Ok(()),
            Some(FromShim::Reply(Reply::Ended { exit, .. })) => {
                return Err(ApiError::not_started(convert::exit(&exit)));
            }
            Some(_) => {}
            None => {
                let id = dir.id().short();
                return Err(ApiError::internal(format!(
                    "the shim of box {id} ended without a word"
                )));
            }
        }
    }
}

/// Starts the boxes whose restart policy wants them to run and whose shim can't see to it any more: after
/// a boot of the host. `tell` hears why one could not be.
pub(crate) async fn due(runtime: &Runtime, tell: &mut dyn FnMut(&str)) -> Result<(), ApiError> {
    let listed = runtime.list(&mut |_| {})?;
    for one in listed.iter().filter(|one| one.is_due()) {
        if again(runtime, one.spec.id.as_str()).await.is_err() {
            tell(&format!("box {} is due and can't be started", one.spec.id.short()));
        }
    }
    Ok(())
}
