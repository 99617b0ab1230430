//! Images.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Images, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImageList {
    /// The images.
    pub images: Vec<ImageInfo>,
}

/// An image.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImageInfo {
    /// Its ID.
    pub id: String,
    /// Its names, in full: registry, path and tag.
    pub names: Vec<String>,
    /// When it was made (RFC 3339, UTC), if it says so.
    pub created: Option<String>,
    /// Bytes of its file system.
    pub content_bytes: u64,
    /// Bytes it takes on the host's disk.
    pub disk_bytes: u64,
    /// What is wrong with it, when it can't be used.
    pub damaged: Option<String>,
}

/// What came out of an archive.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LoadedImages {
    /// The images.
    pub images: Vec<LoadedImage>,
}

/// An image that is there now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LoadedImage {
    /// Its ID.
    pub id: String,
    /// The names it was given, in full.
    pub names: Vec<String>,
    /// Whether it was there already, and only the names are new.
    pub existed: bool,
}

/// What an image is made with. Lists are given once for each of their words.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportImage {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[param(required = false)]
    pub cmd: Vec<String>,
    /// Its entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[param(required = false)]
    pub entrypoint: Vec<String>,
    /// Its environment: `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[param(required = false)]
    pub env: Vec<String>,
    /// Its working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Its user: `USER[:GROUP]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// How an image is removed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteImage {
    /// Take all names away from an ID, also while boxes use the image.
    #[serde(default)]
    #[param(required = false)]
    pub force: bool,
}

/// What a removal took away.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RemovedImage {
    /// The names, in full.
    pub untagged: Vec<String>,
    /// The ID, when the image itself went.
    pub deleted: Option<String>,
}
