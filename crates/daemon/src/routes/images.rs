//! `/v1/images`: listed, loaded, removed.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boxwood_api::{
    DeleteImage, ErrorBody, ImageList, ImportImage, LoadedImage, LoadedImages, RemovedImage,
};
use boxwood_runtime::check_image_config;
use boxwood_runtime::image::{ImageConfig, Import, Loaded, Removal, Source};
use boxwood_types::{Digest, ImageName};
use http::StatusCode;

use crate::app::{App, blocking};
use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, Name, Query};
use crate::upload::uploaded;

/// List images, newest first
#[utoipa::path(
    get, path = "/v1/images", tag = "images",
    responses((status = 200, body = ImageList)))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<ImageList>, ApiError> {
    blocking(move || {
        let images = app.runtime.images()?.list()?;
        Ok(Json(ImageList { images: images.into_iter().map(convert::image).collect() }))
    })
    .await
}

/// Load images from an archive
///
/// A Docker or OCI archive, also compressed, as the body. All of its images are loaded, or none.
#[utoipa::path(
    post, path = "/v1/images", tag = "images",
    request_body(content(
        (Vec<u8> = "application/x-tar"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, body = LoadedImages),
        (status = 400, body = ErrorBody, description = "It is no such archive"),
        (status = 408, body = ErrorBody, description = "It came too slowly"),
        (status = 413, body = ErrorBody)))]
pub(crate) async fn load(State(app): State<App>, body: Body) -> Result<Response, ApiError> {
    let images = uploaded(&app, body, |app, archive| {
        let source = Source::Upload(Box::new(archive));
        Ok(app.runtime.images()?.load(source, &mut |_| {})?)
    });
    let answer = LoadedImages { images: images.await?.into_iter().map(loaded).collect() };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// Make an image of a root file system
///
/// A tar archive of it, also compressed, as the body.
#[utoipa::path(
    post, path = "/v1/images/import", tag = "images",
    params(ImportImage),
    request_body(content(
        (Vec<u8> = "application/x-tar"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, body = LoadedImage),
        (status = 400, body = ErrorBody, description = "It is no such archive"),
        (status = 408, body = ErrorBody, description = "It came too slowly"),
        (status = 413, body = ErrorBody)))]
pub(crate) async fn import(
    State(app): State<App>,
    Query(how): Query<ImportImage>,
    body: Body,
) -> Result<Response, ApiError> {
    // Refused where the body is read, so that who sends it hears the answer.
    let image = uploaded(&app, body, move |app, archive| {
        let (name, config) = asked(how)?;
        let source = Source::Upload(Box::new(archive));
        Ok(app.runtime.images()?.import(Import { source, name, config }, &mut |_| {})?)
    });
    Ok((StatusCode::CREATED, Json(loaded(image.await?))).into_response())
}

/// What an image is to be called, and what it is to say.
fn asked(how: ImportImage) -> Result<(Option<ImageName>, ImageConfig), ApiError> {
    let name = how.name.map(|name| name.parse::<ImageName>()).transpose();
    let name = name.map_err(|error| ApiError::bad(error.to_string()))?;
    let config = ImageConfig {
        cmd: how.cmd,
        entrypoint: how.entrypoint,
        env: how.env,
        working_dir: how.workdir,
        user: how.user,
        ..ImageConfig::default()
    };
    check_image_config(&config)?;
    Ok((name, config))
}

fn loaded(image: Loaded) -> LoadedImage {
    LoadedImage {
        id: image.id.to_string(),
        names: image.names.iter().map(ToString::to_string).collect(),
        existed: image.existed,
    }
}

/// Remove an image, or one of its names
#[utoipa::path(
    delete, path = "/v1/images/{image}", tag = "images",
    params(
        ("image" = String, Path, description = "Name, ID, or the beginning of an ID"),
        DeleteImage),
    responses(
        (status = 200, body = RemovedImage),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Boxes use it, or it has several names")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Name(image): Name,
    Query(how): Query<DeleteImage>,
) -> Result<Json<RemovedImage>, ApiError> {
    blocking(move || remove(&app, &image, how)).await
}

/// Remove the image called import, or that name
///
/// As any other: its name is also that of a resource.
#[utoipa::path(
    delete, path = "/v1/images/import", tag = "images",
    params(DeleteImage),
    responses(
        (status = 200, body = RemovedImage),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Boxes use it, or it has several names")))]
pub(crate) async fn delete_import(
    State(app): State<App>,
    Query(how): Query<DeleteImage>,
) -> Result<Json<RemovedImage>, ApiError> {
    blocking(move || remove(&app, "import", how)).await
}

fn remove(app: &App, image: &str, how: DeleteImage) -> Result<Json<RemovedImage>, ApiError> {
    let users = app.runtime.image_users(&mut |_| {})?;
    let used = |id: &Digest| users.of(id);
    let removal = if how.force { Removal::Forced(&used) } else { Removal::Careful(&used) };
    let removed = app.runtime.images()?.remove(image, removal)?;
    Ok(Json(RemovedImage {
        untagged: removed.untagged.iter().map(ToString::to_string).collect(),
        deleted: removed.deleted.map(|id| id.to_string()),
    }))
}
