//! `/v1/templates`: listed, removed.

use axum::extract::State;
use boxwood_api::{ErrorBody, TemplateList};
use http::StatusCode;

use crate::app::{App, blocking, to_the_end};
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, Name};

/// List templates
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates",
    responses((status = 200, body = TemplateList)))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<TemplateList>, ApiError> {
    blocking(move || {
        let templates = app.runtime.templates().list()?;
        let templates = templates.into_iter().map(convert::template).collect();
        Ok(Json(TemplateList { templates }))
    })
    .await
}

/// Remove a template; it is baked again when it is needed
#[utoipa::path(
    delete, path = "/v1/templates/{key}", tag = "templates",
    params(("key" = String, Path, description = "Its key, or the beginning of it")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Several keys begin like this")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Name(text): Name,
) -> Result<StatusCode, ApiError> {
    to_the_end(move || async move {
        let templates = app.runtime.templates();
        let infos = templates.list()?;
        let mut meant = infos.iter().filter(|info| info.key.starts_with(&text));
        match (meant.next(), meant.next()) {
            (Some(info), None) => templates.remove(&info.key).await?,
            (None, _) => return Err(ApiError::not_found(format!("no such template: {text}"))),
            _ => {
                let message = format!("'{text}' is the beginning of more than one template's key");
                return Err(ApiError::wrong_state(message));
            }
        }
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
