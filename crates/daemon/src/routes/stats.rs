//! `/v1/boxes/{box}/stats` and `top`: what a box takes of the host, and its processes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{BoxProcesses, BoxStats, ErrorBody, StatsOf};
use boxwood_runtime::{Listed, Runtime};
use http::{HeaderValue, Version, header};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;

use crate::app::App;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, Name, Query};
use crate::follow::{self, Cut};

/// Lines that wait for a client.
const WAITING: usize = 1;
/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// Ask what a box takes of the host
///
/// With `stream=true` the body consists of lines (`application/x-ndjson`), one each second, until the box
/// has ended. A rate is the difference of two.
#[utoipa::path(
    get, path = "/v1/boxes/{box}/stats", tag = "boxes",
    params(
        ("box" = String, Path, description = "Name, ID, or the beginning of an ID"),
        StatsOf),
    responses(
        (status = 200, content(
            (BoxStats = "application/json"), (String = "application/x-ndjson"))),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn stats(
    State(app): State<App>,
    Name(name): Name,
    Query(asked): Query<StatsOf>,
    version: Version,
) -> Result<Response, ApiError> {
    let listed = app.find(name).await?;
    if !asked.stream {
        return Ok(Json(look(&app.runtime, &listed).await?).into_response());
    }
    follow::check_version(version)?;
    if app.ending.said.is_cancelled() {
        return Err(ApiError::stopping());
    }
    let (sender, body) = Channel::new(WAITING);
    let runtime = Arc::clone(&app.runtime);
    app.ending.tasks.spawn(follow::send(app.ending.clone(), sender, async |body| {
        keep_looking(runtime, listed, body).await
    }));
    let kind = HeaderValue::from_static(boxwood_api::LINES);
    Ok(([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response())
}

/// A line for each look, until the box has no VM any more.
async fn keep_looking(
    runtime: Arc<Runtime>,
    listed: Listed,
    body: &mut Sender<Bytes, Cut>,
) -> io::Result<()> {
    loop {
        let stats = look(&runtime, &listed).await.map_err(|_| follow::gone())?;
        let mut line = serde_json::to_vec(&stats).expect("plain data always encodes");
        line.push(b'\n');
        body.send_data(line.into()).await.map_err(|_| follow::gone())?;
        if stats.usage.is_none() {
            return Ok(());
        }
        // What a VM takes is measured over time: there is no event when it takes more.
        tokio::time::sleep(PERIOD).await;
    }
}

async fn look(runtime: &Runtime, listed: &Listed) -> Result<BoxStats, ApiError> {
    let usage = runtime.usage(listed).await?;
    let processes = match usage {
        Some(_) => runtime.processes(listed).await,
        None => None,
    };
    Ok(convert::stats(listed, usage, processes))
}

/// List the processes in a box, as its guest shows them
#[utoipa::path(
    get, path = "/v1/boxes/{box}/top", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 200, body = BoxProcesses),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not run"),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn top(
    State(app): State<App>,
    Name(name): Name,
) -> Result<Json<BoxProcesses>, ApiError> {
    let listed = app.find(name).await?;
    Ok(Json(convert::processes(app.runtime.top(&listed).await?)))
}
