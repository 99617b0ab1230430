//! `/v1/health` and `/v1/version`: the daemon itself.

use axum::extract::State;
use boxwood_api::{Health, Version};

use crate::app::App;
use crate::extract::Json;

/// Ask whether the daemon serves
#[utoipa::path(get, path = "/v1/health", tag = "system", responses((status = 200, body = Health)))]
pub(crate) async fn health(State(app): State<App>) -> Json<Health> {
    let status = if app.ending.said.is_cancelled() { "stopping" } else { "ok" };
    Json(Health { status: status.to_owned() })
}

/// Ask for the version
#[utoipa::path(get, path = "/v1/version", tag = "system", responses((status = 200, body = Version)))]
pub(crate) async fn version() -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: "v1".to_owned(),
        os: "linux".to_owned(),
        arch: "amd64".to_owned(),
    })
}
