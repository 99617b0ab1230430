//! `/v1/prune`: what is not in use goes.

use axum::extract::State;
use boxwood_api::{ErrorBody, PruneAll, Pruned};
use boxwood_runtime::state::BoxSpec;
use boxwood_runtime::{Prune, Pruned as Gone};
use boxwood_types::chain;

use crate::app::{App, to_the_end};
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, MaybeJson};

/// Remove boxes that don't run, all or some, and templates if wanted
#[utoipa::path(
    post, path = "/v1/prune", tag = "system",
    request_body(content = Option<PruneAll>),
    responses(
        (status = 200, body = Pruned),
        (status = 400, body = ErrorBody),
        (status = 415, body = ErrorBody)))]
pub(crate) async fn prune(
    State(app): State<App>,
    MaybeJson(asked): MaybeJson<PruneAll>,
) -> Result<Json<Pruned>, ApiError> {
    let what = if asked.templates { Prune::BoxesAndTemplates } else { Prune::Boxes };
    let until = asked.until.as_deref().map(convert::moment).transpose()?;
    let labels: Vec<_> = asked.label.into_iter().map(convert::label).collect();
    let wanted = move |spec: &BoxSpec| {
        until.is_none_or(|until| spec.created < until)
            && labels.iter().all(|label| convert::has_label(spec, label))
    };
    to_the_end(move || async move {
        let mut answer = Pruned::default();
        let mut tell = |gone| match gone {
            Ok(Gone::Box(id)) => answer.boxes.push(id.to_string()),
            Ok(Gone::Template(key)) => answer.templates.push(key),
            Ok(Gone::Memory(name)) => answer.memories.push(name.to_string()),
            Err(error) => answer.warnings.push(chain(&error)),
        };
        let freed_bytes = app.runtime.prune(what, &wanted, &mut tell).await?;
        Ok(Json(Pruned { freed_bytes, ..answer }))
    })
    .await
}
