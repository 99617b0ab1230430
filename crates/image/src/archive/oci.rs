//! OCI images: `index.json` leads to a manifest, the manifest to a configuration and layers. Called
//! by the archive module, for layouts in directories and in archives.

use std::collections::BTreeSet;

use boxwood_types::{Digest, ImageName};
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;

use super::{ArchiveError, Blobs, ImagePlan, LayerPlan, configuration, json, sha256};
use crate::limits;

pub(super) const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// Where builders write an image's name: containerd and Docker the whole of it, others a tag or a
/// name of their own.
const FULL_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The file that says which version of the layout this is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

pub(super) fn plan(blobs: &dyn Blobs, stem: Option<&str>) -> Result<Vec<ImagePlan>, ArchiveError> {
    let layout: LayoutVersion = json(LAYOUT, &blobs.document(LAYOUT)?)?;
    if !layout.image_layout_version.starts_with("1.") {
        let reason = "its version is not 1.x".to_owned();
        return Err(ArchiveError::Value { path: LAYOUT.to_owned(), reason });
    }
    let index = index(INDEX, &blobs.document(INDEX)?)?;
    let mut search = Search { blobs, followed: 0, skipped: BTreeSet::new() };
    let mut plans = Vec::new();
    for descriptor in index.manifests() {
        if let Some(mut plan) = search.image(descriptor, 0)? {
            plan.names = names(descriptor, stem);
            plans.push(plan);
        }
    }
    match plans.is_empty() {
        false => Ok(plans),
        true if search.skipped.is_empty() => {
            let reason = "it names no image".to_owned();
            Err(ArchiveError::Value { path: INDEX.to_owned(), reason })
        }
        true => Err(ArchiveError::Platforms(
            search.skipped.into_iter().take(8).collect::<Vec<_>>().join(", "),
        )),
    }
}

struct Search<'a> {
    blobs: &'a dyn Blobs,
    /// Descriptors that were followed: indexes in indexes could multiply them.
    followed: usize,
    /// Platforms that were passed over.
    skipped: BTreeSet<String>,
}

/// What a descriptor in an index leads to.
enum Target {
    Manifest,
    Index,
}

impl Search<'_> {
    /// The image a descriptor leads to; None when it is for another platform, or no image at all.
    fn image(
        &mut self,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<Option<ImagePlan>, ArchiveError> {
        if !self.fits(descriptor) {
            return Ok(None);
        }
        let (path, _) = blob_path(descriptor)?;
        self.followed += 1;
        if self.followed > limits::DESCRIPTORS {
            let reason =
                format!("more than {} indexes and manifests lead to it", limits::DESCRIPTORS);
            return Err(ArchiveError::Value { path, reason });
        }
        match target(descriptor, &path)? {
            Target::Manifest => self.manifest(descriptor),
            Target::Index if depth >= limits::INDEX_DEPTH => {
                let reason = "it is an index in an index, too many levels deep".to_owned();
                Err(ArchiveError::Value { path, reason })
            }
            Target::Index => {
                let nested = index(&path, &self.blob(descriptor)?)?;
                for inner in nested.manifests() {
                    if let Some(plan) = self.image(inner, depth + 1)? {
                        return Ok(Some(plan));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Whether a descriptor's platform, if it names one, is this machine's.
    fn fits(&mut self, descriptor: &Descriptor) -> bool {
        let Some(platform) = descriptor.platform() else { return true };
        let fits = (platform.os(), platform.architecture()) == (&Os::Linux, &Arch::Amd64);
        // "unknown/unknown" is how builders mark attestations, which are no images.
        if !fits && platform.os().to_string() != "unknown" {
            let name = format!("{}/{}", platform.os(), platform.architecture());
            self.skipped.insert(name.chars().take(40).flat_map(char::escape_debug).collect());
        }
        fits
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Option<ImagePlan>, ArchiveError> {
        let (path, _) = blob_path(descriptor)?;
        let manifest: ImageManifest = json(&path, &self.blob(descriptor)?)?;
        let bad = |reason| ArchiveError::Value { path: path.clone(), reason };
        if manifest.schema_version() != 2 {
            return Err(bad("its schemaVersion is not 2".to_owned()));
        }
        if manifest.media_type().as_ref().is_some_and(|own| own != descriptor.media_type()) {
            return Err(bad("its mediaType is not the one of its descriptor".to_owned()));
        }
        let config = manifest.config();
        let (config_path, config_digest) = blob_path(config)?;
        let known = match config.media_type() {
            MediaType::ImageConfig => true,
            MediaType::Other(other) => other == DOCKER_CONFIG,
            _ => false,
        };
        if !known {
            let media_type = brief(config.media_type());
            return Err(ArchiveError::MediaType { path: config_path, media_type });
        }
        self.check_size(config, &config_path)?;
        let (id, raw, document) = configuration(self.blobs, &config_path, Some(config_digest))?;
        let (has, wants) = (manifest.layers().len(), document.diff_ids.len());
        if has != wants {
            return Err(bad(format!("it names {has} layers, the configuration {wants}")));
        }
        let layers = manifest.layers().iter().zip(&document.diff_ids);
        let layers = layers.map(|(layer, diff_id)| self.layer(layer, diff_id));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Some(ImagePlan { id, raw, names: Vec::new(), layers }))
    }

    fn layer(&self, layer: &Descriptor, diff_id: &Digest) -> Result<LayerPlan, ArchiveError> {
        let (path, digest) = blob_path(layer)?;
        let known = match layer.media_type() {
            MediaType::ImageLayer
            | MediaType::ImageLayerGzip
            | MediaType::ImageLayerZstd
            | MediaType::ImageLayerNonDistributable
            | MediaType::ImageLayerNonDistributableGzip
            | MediaType::ImageLayerNonDistributableZstd => true,
            MediaType::Other(other) => DOCKER_LAYERS.contains(&&**other),
            _ => false,
        };
        if !known {
            return Err(ArchiveError::MediaType { path, media_type: brief(layer.media_type()) });
        }
        let region = self.check_size(layer, &path)?;
        Ok(LayerPlan { path, region, stored: Some(digest), diff_id: diff_id.clone() })
    }

    fn check_size(
        &self,
        descriptor: &Descriptor,
        path: &str,
    ) -> Result<crate::region::Region, ArchiveError> {
        let region = self.blobs.get(path)?;
        let (expected, found) = (descriptor.size(), region.len());
        if expected != found {
            return Err(ArchiveError::Size { path: path.to_owned(), expected, found });
        }
        Ok(region)
    }

    /// A document, checked against its descriptor.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
        let (path, expected) = blob_path(descriptor)?;
        self.check_size(descriptor, &path)?;
        let bytes = self.blobs.document(&path)?;
        let found = sha256(&bytes);
        if found != expected {
            return Err(ArchiveError::Digest { path, expected, found });
        }
        Ok(bytes)
    }
}

fn index(path: &str, bytes: &[u8]) -> Result<ImageIndex, ArchiveError> {
    let index: ImageIndex = json(path, bytes)?;
    let bad = |reason| ArchiveError::Value { path: path.to_owned(), reason };
    if index.schema_version() != 2 {
        return Err(bad("its schemaVersion is not 2".to_owned()));
    }
    let (has, limit) = (index.manifests().len(), limits::IMAGES);
    if has > limit {
        return Err(bad(format!("it names {has} images; {limit} is the limit")));
    }
    Ok(index)
}

fn target(descriptor: &Descriptor, path: &str) -> Result<Target, ArchiveError> {
    match descriptor.media_type() {
        MediaType::ImageManifest => Ok(Target::Manifest),
        MediaType::ImageIndex => Ok(Target::Index),
        MediaType::Other(other) if other == DOCKER_MANIFEST => Ok(Target::Manifest),
        MediaType::Other(other) if other == DOCKER_INDEX => Ok(Target::Index),
        other => {
            let (path, media_type) = (path.to_owned(), brief(other));
            Err(ArchiveError::MediaType { path, media_type })
        }
    }
}

fn brief(media_type: &MediaType) -> String {
    media_type.to_string().chars().take(100).flat_map(char::escape_debug).collect()
}

/// Where a blob is, and its digest: SHA-256 only, so the path has no surprises.
fn blob_path(descriptor: &Descriptor) -> Result<(String, Digest), ArchiveError> {
    let claimed = descriptor.digest().to_string();
    let digest: Digest = claimed.parse().map_err(|_| {
        let path = claimed.chars().take(100).flat_map(char::escape_debug).collect();
        ArchiveError::Value { path, reason: "it is no sha256 digest".to_owned() }
    })?;
    Ok((format!("blobs/sha256/{}", digest.hex()), digest))
}

/// The names a descriptor gives its image. A bare word is a tag of `stem`: the layout in `app` with
/// the tag `1.0`, which tools call `oci:app:1.0`, holds `app:1.0`. What is no name is ignored, and
/// the image can be used by its ID.
fn names(descriptor: &Descriptor, stem: Option<&str>) -> Vec<ImageName> {
    let Some(annotations) = descriptor.annotations() else { return Vec::new() };
    if let Some(name) = annotations.get(FULL_NAME).and_then(|name| name.parse().ok()) {
        return vec![name];
    }
    let name = annotations.get(REF_NAME).and_then(|name| match name.contains(['/', ':']) {
        true => name.parse().ok(),
        false => format!("{}:{name}", stem?).parse().ok(),
    });
    name.into_iter().collect()
}
