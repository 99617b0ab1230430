//! All routes, and what they are in OpenAPI: made of the same code. Called by `serve`, and to print
//! the document.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use boxwood_api::{BoxState, ErrorBody, ErrorKind};
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use utoipa::OpenApi as _;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::ApiError;
use crate::queries::{Known, check};
use crate::routes as all;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Boxwood",
        description = "OCI images in microVMs that start in a fraction of a second.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ErrorBody, BoxState)),
    tags(
        (name = "boxes", description = "MicroVMs, each running one image"),
        (name = "exec", description = "Commands beside a box's own"),
        (name = "images", description = "What boxes are made of"),
        (name = "snapshots", description = "Boxes as they were at one moment"),
        (name = "pool", description = "VMs that wait for boxes"),
        (name = "templates", description = "What boxes start from"),
        (name = "system", description = "The daemon itself")
    )
)]
struct Document;

fn both() -> (Router<App>, OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(all::boxes::list, all::boxes::create))
        .routes(routes!(all::boxes::get, all::boxes::delete))
        .routes(routes!(all::boxes::inspect))
        .routes(routes!(all::start::start))
        .routes(routes!(all::start::restart))
        .routes(routes!(all::actions::stop))
        .routes(routes!(all::actions::kill))
        .routes(routes!(all::actions::pause))
        .routes(routes!(all::actions::unpause))
        .routes(routes!(all::actions::wait))
        .routes(routes!(all::actions::rename))
        .routes(routes!(all::actions::update))
        .routes(routes!(all::actions::resize))
        .routes(routes!(all::actions::release))
        .routes(routes!(all::attach::attach))
        .routes(routes!(all::logs::logs))
        .routes(routes!(all::events::events))
        .routes(routes!(all::stats::stats))
        .routes(routes!(all::stats::top))
        .routes(routes!(all::exec::create))
        .routes(routes!(all::exec::get))
        .routes(routes!(all::exec::start))
        .routes(routes!(all::exec::signal))
        .routes(routes!(all::exec::resize))
        .routes(routes!(all::exec::release))
        .routes(routes!(all::images::list, all::images::load))
        .routes(routes!(all::images::import, all::images::delete_import))
        .routes(routes!(all::images::delete))
        .routes(routes!(all::snapshots::capture))
        .routes(routes!(all::snapshots::list, all::carry::import))
        .routes(routes!(all::snapshots::get, all::snapshots::delete))
        .routes(routes!(all::snapshots::verify))
        .routes(routes!(all::carry::export))
        .routes(routes!(all::restore::restore))
        .routes(routes!(all::restore::fork))
        .routes(routes!(all::pool::get, all::pool::set))
        .routes(routes!(all::templates::list))
        .routes(routes!(all::templates::delete))
        .routes(routes!(all::system::health))
        .routes(routes!(all::system::version))
        .routes(routes!(all::metrics::text))
        .routes(routes!(all::metrics::json))
        .routes(routes!(all::prune::prune))
        .split_for_parts();
    (router, complete(document))
}

/// The router of all requests.
pub(crate) fn router(app: App) -> Router {
    let (router, document) = both();
    let known = Arc::new(Known::of(&document));
    let router = router.route_layer(from_fn_with_state(known, check));
    router.fallback(unknown).method_not_allowed_fallback(wrong_method).with_state(app)
}

/// The document, as it is checked in at docs/openapi.json.
pub fn openapi() -> String {
    let (_, document) = both();
    let mut text = document.to_pretty_json().expect("plain data always encodes");
    text.push('\n');
    text
}

async fn unknown(uri: Uri) -> impl IntoResponse {
    ApiError::not_found(format!("no such resource: {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> impl IntoResponse {
    let message = format!("{} does not know {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::MethodNotAllowed, message)
}

/// What all operations have in common: how they are authorized, and how they fail.
fn complete(mut document: OpenApi) -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Over TCP; the Unix socket asks for none."))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    let asked = &mut components.schemas;
    exclude(asked.get_mut("CreateBox"), &[disabled_and_set(), removed_and_restarted()]);
    exclude(asked.get_mut("UpdateBox"), &[disabled_and_set()]);
    document.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new("token", [""; 0])]);
    let other = Response::builder()
        .description("Any other failure")
        .content("application/json", Content::new(Some(Ref::from_schema_name("ErrorBody"))))
        .build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten();
        for operation in operations {
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), RefOr::T(other.clone()));
        }
    }
    document
}

/// Says what an object is not: what no derived schema has a word for.
fn exclude(schema: Option<&mut RefOr<Schema>>, what: &[Value]) {
    let Some(RefOr::T(Schema::Object(object))) = schema else { panic!("no such object") };
    object.extensions = Some(Extensions::from_iter([("not", json!({ "anyOf": what }))]));
}

fn disabled_and_set() -> Value {
    json!({
        "required": ["health_check_disabled", "health_check_settings"],
        "properties": {
            "health_check_disabled": { "const": true },
            "health_check_settings": { "type": "object" }
        }
    })
}

fn removed_and_restarted() -> Value {
    json!({
        "required": ["auto_remove", "restart_policy"],
        "properties": {
            "auto_remove": { "const": true },
            "restart_policy": { "type": "string", "not": { "const": "no" } }
        }
    })
}

#[cfg(test)]
mod tests {
    /// What a path template leaves open.
    fn is_open(part: &str) -> bool {
        part.starts_with('{')
    }

    #[test]
    fn what_is_called_like_a_resource_can_be_asked_for_what_others_can() {
        let (_, document) = super::both();
        let paths = &document.paths.paths;
        let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        for (path, item) in paths {
            for (other, theirs) in paths {
                let (fixed, open) = (parts(path), parts(other));
                let shadows = fixed.len() == open.len()
                    && fixed.iter().zip(&open).all(|(a, b)| a == b || !is_open(a) && is_open(b));
                let lacks = theirs.get.is_some() && item.get.is_none()
                    || theirs.post.is_some() && item.post.is_none()
                    || theirs.delete.is_some() && item.delete.is_none();
                assert!(!shadows || !lacks, "{path} hides a part of {other}");
            }
        }
    }

    #[test]
    fn the_document_that_is_checked_in_is_the_codes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        let fresh = super::openapi();
        assert!(
            checked_in == fresh,
            "docs/openapi.json is not what the code says: run \
             'boxwood serve --openapi > docs/openapi.json' and look at the difference"
        );
    }
}
