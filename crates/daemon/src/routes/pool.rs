//! `/v1/pool`: how many VMs wait for boxes.

use axum::extract::State;
use boxwood_api::{ErrorBody, Pool, SetPool};
use http::StatusCode;

use crate::app::{App, blocking, while_wanted};
use crate::convert;
use crate::error::ApiError;
use crate::extract::Json;

/// Look at the pool
#[utoipa::path(get, path = "/v1/pool", tag = "pool", responses((status = 200, body = Pool)))]
pub(crate) async fn get(State(app): State<App>) -> Result<Json<Pool>, ApiError> {
    blocking(move || Ok(Json(convert::pool(app.runtime.pool()?)))).await
}

/// Set how many VMs of a shape wait
///
/// Answered when they do. When its client goes before, those that were begun wait all the same.
#[utoipa::path(
    post, path = "/v1/pool", tag = "pool", request_body = SetPool,
    responses(
        (status = 204, description = "So many wait"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "There is no such image"),
        (status = 409, body = ErrorBody, description = "The host is too small"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn set(
    State(app): State<App>,
    Json(asked): Json<SetPool>,
) -> Result<StatusCode, ApiError> {
    let request = convert::pool_request(asked)?;
    while_wanted(move || async move {
        app.runtime.set_pool(&request, &mut |_| {}).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
