//! What an error means to a client: a status, a kind for programs, and one line for people. Called by
//! every route; the one place where errors of other crates become statuses.

use axum::response::{IntoResponse, Response};
use boxwood_api::{ErrorBody, ErrorKind, Exit, Problem};
use boxwood_runtime::Error;
use boxwood_runtime::image::{self, ImageError};
use boxwood_runtime::state::StateError;
use boxwood_runtime::vmm;
use boxwood_types::chain;
use http::{HeaderValue, StatusCode, header};

/// The longest message. What a client sent may be quoted in it.
const MESSAGE: usize = 2000;

/// Why a request was not done.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: ErrorKind,
    message: String,
    exit: Option<Exit>,
}

impl ApiError {
    /// One of these.
    pub(crate) fn new(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        ApiError { status, kind, message: message.into(), exit: None }
    }

    /// The request is wrong.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, ErrorKind::BadRequest, message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
    }

    /// The thing is not in a state for it.
    pub(crate) fn wrong_state(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::CONFLICT, ErrorKind::WrongState, message)
    }

    /// Boxwood or the host failed.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Internal, message)
    }

    /// The body is too large.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message)
    }

    /// The daemon is about to end.
    pub(crate) fn stopping() -> Self {
        let message = "the daemon is about to end: ask again when it is back";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Stopping, message)
    }

    /// What it says.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// A box ended before its command ran.
    pub(crate) fn not_started(exit: Exit) -> Self {
        let message = exit.message.clone().unwrap_or_else(|| exit.reason.clone());
        let (status, kind) = match exit.code {
            126 | 127 => (StatusCode::CONFLICT, ErrorKind::NotStarted),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Internal),
        };
        ApiError { status, kind, message, exit: Some(exit) }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        use ErrorKind as Kind;
        let (status, kind) = match &error {
            Error::State(error) => return ApiError::from_state(error),
            Error::Image(error) => return ApiError::from_image(error),
            Error::Vmm(error) => return ApiError::from_vmm(error),
            Error::BadEnv(_)
            | Error::BadImageEnv(_)
            | Error::BadWorkdir(_)
            | Error::BadHealth(_)
            | Error::BadHostname(_)
            | Error::PoolTooLarge { .. } => (StatusCode::BAD_REQUEST, Kind::BadRequest),
            Error::WrongState { .. } | Error::Refused { .. } | Error::Owned { .. } => {
                (StatusCode::CONFLICT, Kind::WrongState)
            }
            // With another image or box, elsewhere, or later, it may do.
            Error::NoFreeName
            | Error::NoCommand(_)
            | Error::RestartAndRemove
            | Error::RestartOfRemoved { .. }
            | Error::TooManyCpus { .. }
            | Error::TooManyLayers { .. }
            | Error::ImageOfSnapshot { .. }
            | Error::TooMuchMemory { .. } => (StatusCode::CONFLICT, Kind::Conflict),
            Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Kind::TooLarge),
            Error::EndUnwritten { end, .. } => {
                let (status, kind) = (StatusCode::INTERNAL_SERVER_ERROR, Kind::EndUnwritten);
                let exit = Some(crate::convert::exit(end));
                return ApiError { exit, ..ApiError::new(status, kind, chain(&error)) };
            }
            Error::NoAnswer { .. } | Error::Unheeded { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, Kind::NoAnswer)
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, Kind::Internal),
        };
        ApiError::new(status, kind, chain(&error))
    }
}

impl ApiError {
    fn from_state(error: &StateError) -> Self {
        let (status, kind) = match error {
            StateError::NoSuchBox(_) | StateError::NoSuchSnapshot(_) => {
                (StatusCode::NOT_FOUND, ErrorKind::NotFound)
            }
            StateError::NameTaken { .. }
            | StateError::SnapshotTaken(_)
            | StateError::SameName(_)
            | StateError::Ambiguous(_) => (StatusCode::CONFLICT, ErrorKind::Conflict),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Internal),
        };
        ApiError::new(status, kind, chain(error))
    }

    fn from_vmm(error: &vmm::Error) -> Self {
        let (status, kind) = match error {
            vmm::Error::NoArchive { .. } => (StatusCode::BAD_REQUEST, ErrorKind::BadRequest),
            // With its disk alone, or on another host, it may do; a damaged one has to be removed.
            vmm::Error::Foreign { .. }
            | vmm::Error::Unfit { .. }
            | vmm::Error::DiskAlone { .. }
            | vmm::Error::TooManyCaptures { .. } => (StatusCode::CONFLICT, ErrorKind::Conflict),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Internal),
        };
        ApiError::new(status, kind, chain(error))
    }

    fn from_image(error: &ImageError) -> Self {
        let (status, kind) = match (error, error.kind()) {
            (ImageError::InputTooBig { .. } | ImageError::LayerTooBig { .. }, _) => {
                (StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge)
            }
            // What can't name an image names none.
            (ImageError::BadReference(..), _) | (_, image::ErrorKind::NotFound) => {
                (StatusCode::NOT_FOUND, ErrorKind::NotFound)
            }
            (_, image::ErrorKind::BadInput) => (StatusCode::BAD_REQUEST, ErrorKind::BadRequest),
            (_, image::ErrorKind::Conflict) => (StatusCode::CONFLICT, ErrorKind::Conflict),
            (_, image::ErrorKind::Damaged | image::ErrorKind::Host) => {
                (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Internal)
            }
        };
        ApiError::new(status, kind, chain(error))
    }
}

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> Self {
        ApiError::from_image(&error)
    }
}

impl From<vmm::Error> for ApiError {
    fn from(error: vmm::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let ApiError { kind, message, exit, .. } = error;
        // What others named must not break a line of somebody's log.
        let message: String =
            message.chars().take(MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Problem { kind, message, exit }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let body = ErrorBody { error: self.into() };
        let mut response = (status, crate::extract::json(&body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static(boxwood_api::STREAM));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use boxwood_runtime::state::ExitRecord;
    use boxwood_types::{BoxId, ExitReason, ExitStatus};

    use super::*;

    #[test]
    fn h5_an_end_that_could_not_be_written_down_is_told_as_it_was() {
        let end = ExitRecord {
            status: ExitStatus::Code(3),
            reason: ExitReason::Exited,
            code: 3,
            message: None,
        };
        let (id, why) = (BoxId::from_random([7; 32]), "no space".to_owned());
        let problem: Problem =
            ApiError::from(Error::EndUnwritten { id, end: Box::new(end), why }).into();
        assert_eq!(problem.kind, ErrorKind::EndUnwritten);
        assert_eq!(problem.exit.map(|exit| exit.code), Some(3));
        assert!(problem.message.contains("could not be written down: no space"));
    }
}
