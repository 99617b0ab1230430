//! `/metrics` and `/v1/metrics`: what was counted and timed.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::Metrics;
use boxwood_runtime::METRICS_TYPE;
use http::{HeaderValue, header};

use crate::app::{App, blocking};
use crate::convert;
use crate::error::ApiError;
use crate::extract::Json;

/// Ask what was counted and timed, as Prometheus reads it
#[utoipa::path(
    get, path = "/metrics", tag = "system",
    responses((status = 200, content_type = "application/openmetrics-text", body = String)))]
pub(crate) async fn text(State(app): State<App>) -> Result<Response, ApiError> {
    let text = blocking(move || Ok(app.runtime.metrics()?.text())).await?;
    let kind = HeaderValue::from_static(METRICS_TYPE);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Ask what was counted and timed
#[utoipa::path(
    get, path = "/v1/metrics", tag = "system", responses((status = 200, body = Metrics)))]
pub(crate) async fn json(State(app): State<App>) -> Result<Json<Metrics>, ApiError> {
    blocking(move || Ok(Json(convert::metrics(&app.runtime.metrics()?)))).await
}
