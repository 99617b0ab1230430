//! `/v1/boxes/{box}/attach`: main's standard streams, from now on.

use axum::extract::State;
use axum::response::Response;
use boxwood_api::{AttachBox, ErrorBody};
use boxwood_runtime::Attached;

use crate::app::App;
use crate::error::ApiError;
use crate::extract::{MustUpgrade, Name, Query};
use crate::routes::switching;
use crate::stream::Stream;

/// Connect to the command of a running box
///
/// The connection becomes its standard streams; see docs/rest.md. The box does not mind when it ends.
#[utoipa::path(
    post, path = "/v1/boxes/{box}/attach", tag = "boxes",
    params(
        ("box" = String, Path, description = "Name, ID, or the beginning of an ID"),
        AttachBox),
    responses(
        (status = 101, description = "The connection is a stream now"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It does not run"),
        (status = 426, body = ErrorBody)))]
pub(crate) async fn attach(
    State(app): State<App>,
    Name(name): Name,
    Query(how): Query<AttachBox>,
    MustUpgrade(upgrade): MustUpgrade,
) -> Result<Response, ApiError> {
    if app.ending.said.is_cancelled() {
        return Err(ApiError::stopping());
    }
    let listed = app.find(name).await?;
    let attached = match how.logs {
        true => app.runtime.replay(&listed).await?,
        false => app.runtime.attach(&listed).await?,
    };
    let Attached { mut reader, mut writer } = attached;
    let due = app.ending.due.clone();
    app.ending.tasks.spawn(async move {
        let Ok(stream) = Stream::of(upgrade).await else { return };
        stream.carry(&mut reader, &mut writer, &due, &mut |_| {}).await;
    });
    Ok(switching())
}
