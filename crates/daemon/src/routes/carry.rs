//! `/v1/snapshots` as archives: exported and imported while they are sent, never kept as a whole.

use std::io::Write;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{ErrorBody, ImportSnapshot, ImportedSnapshot};
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};

use crate::app::{App, blocking};
use crate::convert;
use crate::download::{Ends, downloaded};
use crate::error::ApiError;
use crate::extract::{Json, Name, Query};
use crate::follow;
use crate::upload::uploaded;

/// Read a snapshot, with all it needs but its image
///
/// The body is one archive. When it breaks off, the archive is not whole; import finds that, too. Who asks with
/// `TE: trailers` is told why in the trailer `Boxwood-Problem`, a `Problem`; an archive
/// behind which there is one is not whole.
#[utoipa::path(
    get, path = "/v1/snapshots/{snapshot}/export", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Its name")),
    responses(
        (status = 200, content_type = "application/zstd", body = Vec<u8>),
        (status = 404, body = ErrorBody)))]
pub(crate) async fn export(
    State(app): State<App>,
    Name(name): Name,
    version: Version,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    follow::check_version(version)?;
    let runtime = app.runtime.clone();
    let snapshot = blocking(move || Ok(runtime.find_snapshot(&name)?)).await?;
    let write = move |app: &App, out: &mut dyn Write| -> Result<(), ApiError> {
        Ok(app.runtime.export_snapshot(&snapshot, out)?)
    };
    let mut response = downloaded(&app, Ends::of(&headers), write).await?;
    let kind = HeaderValue::from_static(boxwood_api::SNAPSHOT);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Keep a snapshot that was exported, here or elsewhere
///
/// The archive is the body. The snapshot's image must be there. Nothing is kept before all of it was checked.
#[utoipa::path(
    post, path = "/v1/snapshots", tag = "snapshots",
    params(ImportSnapshot),
    request_body(content(
        (Vec<u8> = "application/zstd"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, body = ImportedSnapshot),
        (status = 400, body = ErrorBody, description = "It is no such archive"),
        (status = 408, body = ErrorBody, description = "It came too slowly"),
        (status = 409, body = ErrorBody, description = "The name is taken, or the image is not there"),
        (status = 413, body = ErrorBody)))]
pub(crate) async fn import(
    State(app): State<App>,
    Query(how): Query<ImportSnapshot>,
    body: Body,
) -> Result<Response, ApiError> {
    // Refused where the body is read, so that who sends it hears the answer.
    let imported = uploaded(&app, body, move |app, mut archive| {
        let name = convert::imported_as(how.name.as_deref())?;
        Ok(app.runtime.import_snapshot(&mut archive, name.as_ref())?)
    });
    let imported = imported.await?;
    let name = imported.snapshot.info.name.to_string();
    let answer = ImportedSnapshot { name, foreign: imported.foreign };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}
