//! What a request holds, taken out of it and bounded; and JSON on the way back. Called by the routes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use boxwood_api::ErrorKind;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The largest body that is JSON, in bytes.
const MAX_BODY: usize = 1 << 20;
/// How long such a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// The longest text in a path: longer than any name, ID or image name.
const MAX_NAME: usize = 300;

/// A body of JSON.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// A body of JSON, or none.
#[derive(Debug)]
pub(crate) struct MaybeJson<T>(pub(crate) T);

/// The query of the address.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

/// The one name in the path.
#[derive(Debug)]
pub(crate) struct Name(pub(crate) String);

/// The connection, if the client asks for it to become a stream.
#[derive(Debug)]
pub(crate) struct Upgrade(pub(crate) Option<OnUpgrade>);

/// A connection that is to become a stream; a request that does not say so is refused.
#[derive(Debug)]
pub(crate) struct MustUpgrade(pub(crate) OnUpgrade);

/// A value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Response {
    let bytes = serde_json::to_vec(value).expect("plain data always encodes");
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], bytes).into_response()
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(&self.0)
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = collect(body).await?;
        check_kind(&parts.headers)?;
        parse(&bytes).map(Json)
    }
}

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = collect(body).await?;
        if bytes.is_empty() {
            return Ok(MaybeJson(T::default()));
        }
        check_kind(&parts.headers)?;
        match bytes.trim_ascii() {
            b"null" => Ok(MaybeJson(T::default())),
            bytes => parse(bytes).map(MaybeJson),
        }
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        serde_html_form::from_str(query)
            .map(Query)
            .map_err(|error| ApiError::bad(format!("the query can't be used: {error}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::bad(format!("the path can't be used: {error}")))?;
        if name.len() > MAX_NAME || name.contains('\0') {
            let start: String = name.chars().take(40).collect();
            return Err(ApiError::bad(format!("'{start}…' can't name anything")));
        }
        Ok(Name(name))
    }
}

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let wanted = has_token(&parts.headers, &header::UPGRADE, boxwood_api::STREAM)
            && has_token(&parts.headers, &header::CONNECTION, "upgrade");
        Ok(Upgrade(parts.extensions.remove::<OnUpgrade>().filter(|_| wanted)))
    }
}

impl<S: Sync> FromRequestParts<S> for MustUpgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Upgrade(upgrade) = Upgrade::from_request_parts(parts, state).await?;
        upgrade.map(MustUpgrade).ok_or_else(|| {
            let stream = boxwood_api::STREAM;
            let message =
                format!("send 'Connection: upgrade' and 'Upgrade: {stream}' to get the stream");
            ApiError::new(StatusCode::UPGRADE_REQUIRED, ErrorKind::UpgradeRequired, message)
        })
    }
}

/// Whether a header's list has this word in it.
pub(crate) fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

fn check_kind(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if kind.trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "send a body of JSON with 'Content-Type: application/json'";
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(ApiError::new(status, ErrorKind::UnsupportedMediaType, message))
}

async fn collect(body: Body) -> Result<Vec<u8>, ApiError> {
    let whole = tokio::time::timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect());
    match whole.await {
        Ok(Ok(whole)) => Ok(whole.to_bytes().into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large(format!("the body has more than {MAX_BODY} bytes")))
        }
        Ok(Err(_)) => Err(ApiError::bad("the body can't be read")),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_WITHIN.as_secs());
            let status = StatusCode::REQUEST_TIMEOUT;
            Err(ApiError::new(status, ErrorKind::RequestTimeout, message))
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // A list would be taken for the fields in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::bad("the body can't be used: it is no JSON object"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad(format!("the body can't be used: {error}")))
}
