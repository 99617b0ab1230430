//! Docker archives, as `docker save` writes them: `manifest.json` names a configuration, layers and
//! tags per image. Called by the archive module.

use boxwood_types::ImageName;
use serde::Deserialize;

use super::{ArchiveError, Blobs, ImagePlan, LayerPlan, configuration, digest_in, json};
use crate::limits;

pub(super) const MANIFEST: &str = "manifest.json";

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    /// Null or absent for an image without layers.
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn plan(blobs: &dyn Blobs) -> Result<Vec<ImagePlan>, ArchiveError> {
    let items: Vec<Item> = json(MANIFEST, &blobs.document(MANIFEST)?)?;
    if items.is_empty() {
        return Err(bad("it names no image".to_owned()));
    }
    if items.len() > limits::IMAGES {
        let (has, limit) = (items.len(), limits::IMAGES);
        return Err(bad(format!("it names {has} images; {limit} is the limit")));
    }
    items.iter().map(|item| image(blobs, item)).collect()
}

fn image(blobs: &dyn Blobs, item: &Item) -> Result<ImagePlan, ArchiveError> {
    let path = plain(&item.config)?;
    let (id, raw, document) = configuration(blobs, path, digest_in(path))?;
    let layers = item.layers.as_deref().unwrap_or_default();
    if layers.len() != document.diff_ids.len() {
        let (has, wants) = (layers.len(), document.diff_ids.len());
        return Err(bad(format!("it names {has} layers, the configuration {wants}")));
    }
    let mut plans = Vec::new();
    for (path, diff_id) in layers.iter().zip(&document.diff_ids) {
        let region = blobs.get(plain(path)?)?;
        // The digest in a blob's name is of the bytes as they are stored; older versions name
        // layers by something else, and their diff ID alone tells.
        let stored = digest_in(path);
        plans.push(LayerPlan { path: path.clone(), region, stored, diff_id: diff_id.clone() });
    }
    let mut names = Vec::new();
    for tag in item.repo_tags.iter().flatten() {
        let name: ImageName =
            tag.parse().map_err(|error: boxwood_types::ImageNameError| bad(error.to_string()))?;
        names.push(name);
    }
    Ok(ImagePlan { id, raw, names, layers: plans })
}

/// A path as it stands in the manifest; it only ever selects a member, but an honest one is plain.
fn plain(path: &str) -> Result<&str, ArchiveError> {
    if path.starts_with('/') || path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        let shown: String = path.chars().take(200).flat_map(char::escape_debug).collect();
        return Err(bad(format!("'{shown}' is no plain relative path")));
    }
    Ok(path)
}

fn bad(reason: String) -> ArchiveError {
    ArchiveError::Value { path: MANIFEST.to_owned(), reason }
}
