//! `/v1/boxes`: listed, created, looked at, removed.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{BoxInfo, BoxList, CreateBox, Created, DeleteBox, ErrorBody, ListBoxes};
use boxwood_runtime::state::failpoint;
use boxwood_runtime::{CreateRequest, Error, Force, Listed, Runtime, Start};
use boxwood_types::{BoxState, chain};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::app::{App, blocking, to_the_end};
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, Name, Query};
use crate::keys::Key;
use crate::routes::start;

/// A guest that is asked beside everything else that is known is not waited for longer.
const GUEST: Duration = Duration::from_secs(2);

/// List boxes, newest first
#[utoipa::path(
    get, path = "/v1/boxes", tag = "boxes", params(ListBoxes),
    responses((status = 200, body = BoxList), (status = 400, body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(asked): Query<ListBoxes>,
) -> Result<Json<BoxList>, ApiError> {
    let size = asked.size;
    let wanted = Wanted::new(asked);
    let runtime = app.runtime.clone();
    let (listed, warnings) = blocking(move || {
        runtime.recover()?;
        let mut warnings = Vec::new();
        let listed = runtime.list(&mut |error| warnings.push(chain(&error)))?;
        Ok((listed, warnings))
    })
    .await?;
    let mut listed = app.runtime.settle(listed).await;
    listed.retain(|one| wanted.holds(one));
    let runtime = app.runtime.clone();
    let shown = move |one: &Listed| {
        let disk_bytes = size.then(|| runtime.disk_bytes(one));
        BoxInfo { disk_bytes, ..convert::info(one) }
    };
    let boxes = blocking(move || Ok(listed.iter().map(shown).collect())).await?;
    Ok(Json(BoxList { boxes, warnings }))
}

/// Create a box, and start it if wanted
///
/// With an `Idempotency-Key` the same request may be sent again: the box that it made is answered,
/// as long as that is there. Another request with the same key is refused.
#[utoipa::path(
    post, path = "/v1/boxes", tag = "boxes", request_body = CreateBox,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 128,
        pattern = "^[!-~]+$", description = "Makes it safe to send this again")),
    responses(
        (status = 201, body = Created),
        (status = 200, body = Created, description = "This request had made the box before"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "There is no such image"),
        (status = 409, body = ErrorBody, description = "The name is taken, or the key was used"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    Json(asked): Json<CreateBox>,
) -> Result<Response, ApiError> {
    let start = asked.start;
    let key = Key::of(&headers, &asked)?;
    let request = convert::create(asked, key.as_ref())?;
    let held = match &key {
        Some(key) => Some(app.keys.hold(key).await),
        None => None,
    };
    to_the_end(move || async move {
        // Until the box can be found by its key.
        let _held = held;
        let _alone = key.as_ref().map(|key| key.lock(&app.runtime)).transpose()?;
        if let Some(key) = key
            && let Some(made) = key.find(&app.runtime)?
        {
            let answer = Created { id: made.spec.id.to_string(), name: made.spec.name.to_string() };
            if start {
                started_before(&app.runtime, made).await?;
            }
            return Ok(Json(answer).into_response());
        }
        let answer = make(&app.runtime, &request, start).await?;
        Ok((StatusCode::CREATED, Json(answer)).into_response())
    })
    .await
}

/// What was made before and is to run: it is started if nobody has, and what came of that is told again.
async fn started_before(runtime: &Runtime, made: Listed) -> Result<(), ApiError> {
    match (made.record.state, made.record.exit) {
        (BoxState::Created, _) => start::again(runtime, made.spec.id.as_str()).await,
        (BoxState::Failed, Some(exit)) => Err(ApiError::not_started(convert::exit(&exit))),
        _ => Ok(()),
    }
}

async fn make(
    runtime: &Runtime,
    request: &CreateRequest,
    start: bool,
) -> Result<Created, ApiError> {
    let prepared =
        runtime.prepare(&request.image, request.shape, Start::First, &mut |_| {}).await?;
    let held = match start {
        true => runtime.create_to_start(request, &prepared)?,
        false => runtime.create(request, &prepared)?,
    };
    failpoint("daemon: box created");
    let spec = held.spec();
    let answer = Created { id: spec.id.to_string(), name: spec.name.to_string() };
    if start {
        start::until_started(held.start(runtime)?).await?;
    }
    Ok(answer)
}

/// Look at a box
#[utoipa::path(
    get, path = "/v1/boxes/{box}", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses((status = 200, body = BoxInfo), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(app): State<App>,
    Name(name): Name,
) -> Result<Json<BoxInfo>, ApiError> {
    Ok(Json(convert::info(&app.look(name).await?)))
}

/// Look at everything about a box, in Docker's words
///
/// This is what `boxwood inspect` shows: as `docker inspect` shows a container, as far as a box has
/// the thing.
#[utoipa::path(
    get, path = "/v1/boxes/{box}/inspect", tag = "boxes",
    params(("box" = String, Path, description = "Name, ID, or the beginning of an ID")),
    responses(
        (status = 200, body = std::collections::BTreeMap<String, Value>),
        (status = 404, body = ErrorBody)))]
pub(crate) async fn inspect(
    State(app): State<App>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let listed = app.look(name).await?;
    // A guest that says nothing hides nothing else.
    let counted = match listed.record.state {
        BoxState::Running => app.runtime.counted(&listed, GUEST).await.ok(),
        _ => None,
    };
    Ok(Json(boxwood_runtime::view(&listed, counted, &convert::rfc3339)))
}

/// Remove a box, with its disk and its log
#[utoipa::path(
    delete, path = "/v1/boxes/{box}", tag = "boxes",
    params(
        ("box" = String, Path, description = "Name, ID, or the beginning of an ID"),
        DeleteBox),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It runs, and this is not forced"),
        (status = 503, body = ErrorBody, description = "It could not be ended and is still there")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Name(name): Name,
    Query(how): Query<DeleteBox>,
) -> Result<StatusCode, ApiError> {
    let force = if how.force { Force::Kill } else { Force::No };
    to_the_end(move || async move {
        let removed = async { app.runtime.remove(app.runtime.find(&name)?, force).await };
        match removed.await {
            Err(Error::State(error)) if how.force && error.is_damage() => {
                app.runtime.remove_damaged(&name).await?;
            }
            other => other?,
        }
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Which boxes are listed.
struct Wanted {
    all: bool,
    states: Vec<BoxState>,
    name: Option<String>,
    labels: Vec<convert::Label>,
    image: Option<String>,
}

impl Wanted {
    fn new(asked: ListBoxes) -> Self {
        Wanted {
            all: asked.all || !asked.state.is_empty(),
            states: asked.state.into_iter().map(convert::state).collect(),
            name: asked.name,
            labels: asked.label.into_iter().map(convert::label).collect(),
            image: asked.image,
        }
    }

    fn holds(&self, listed: &Listed) -> bool {
        let (spec, state) = (&listed.spec, listed.record.state);
        let made_of = |image: &String| {
            let id = spec.image.id.as_str();
            spec.image.name == *image
                || id.starts_with(image)
                || id.trim_start_matches("sha256:").starts_with(image)
        };
        (self.all || state.is_live())
            && (self.states.is_empty() || self.states.contains(&state))
            && self.name.as_ref().is_none_or(|part| spec.name.as_str().contains(part))
            && self.labels.iter().all(|label| convert::has_label(spec, label))
            && self.image.as_ref().is_none_or(made_of)
    }
}
