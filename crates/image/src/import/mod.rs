//! `boxwood import`: a root file system, as a tar or a directory, becomes an image of one layer.
//! Called by the CLI and the daemon; the default image uses its configuration writer.

mod walk;

use std::collections::BTreeMap;
use std::io::Read;
use std::time::SystemTime;

use boxwood_types::{Digest, ImageName};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::clock;
use crate::config::{Document, ImageConfig};
use crate::error::ImageError;
use crate::layer::Ending;
use crate::store::{
    Build, ImageStore, Loaded, Merged, NewImage, Opened, Progress, Source, input_name, open_file,
};
pub use walk::ImportError;

/// What to import.
#[derive(Debug)]
pub struct Import {
    /// The root file system.
    pub source: Source,
    /// The image's name; without one it can be used by its ID.
    pub name: Option<ImageName>,
    /// How to run it; empty by default, as with `docker import`.
    pub config: ImageConfig,
}

impl ImageStore {
    /// Makes an image of a root file system.
    ///
    /// Whiteouts in a tar are applied as in a layer. Of a directory the contents of mounts below
    /// it are left out.
    pub fn import(
        &self,
        import: Import,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Loaded, ImageError> {
        import.config.check_texts().map_err(ImageError::Config)?;
        let input = input_name(&import.source);
        let unreadable = |source| ImageError::Input { input: input.clone(), source };
        let mut build = self.build()?;
        let opened = match import.source {
            Source::Path(path) => match open_file(&path).map_err(unreadable)? {
                Opened::Directory => Err(path),
                Opened::Seekable(file) => Ok(Box::new(file) as Box<dyn Read + Send>),
                Opened::Stream(stream, _) => Ok(stream),
            },
            Source::Stream(stream) | Source::Upload(stream) => Ok(stream),
        };
        let diff_id = match opened {
            Ok(stream) => {
                let layer =
                    Merged { label: &input, ending: Ending::Marker, stored: None, diff_id: None };
                let digests = build.merge(stream, layer, &mut |bytes| {
                    progress(Progress::Layer { image: None, layer: 1, layers: 1, bytes });
                })?;
                Some(digests.plain)
            }
            Err(path) => {
                walk::import(&path, &mut build, progress)
                    .map_err(|source| ImageError::Import { input: input.clone(), source })?;
                None
            }
        };
        progress(Progress::Writing);
        let made = Made {
            created: SystemTime::now(),
            comment: "Imported by boxwood",
            config: import.config,
            names: import.name.into_iter().collect(),
        };
        self.publish_made(build, diff_id, made)
    }

    /// Publishes an image that was not loaded but made here. Without a tar the digest of the block
    /// image's content stands for the diff ID.
    pub(crate) fn publish_made(
        &self,
        build: Build,
        diff_id: Option<Digest>,
        made: Made,
    ) -> Result<Loaded, ImageError> {
        let (temp, block) = build.finish()?;
        let raw = made.document(diff_id.as_ref().unwrap_or(&block.digest))?;
        let id = Digest::from_bytes(&Sha256::digest(raw.as_bytes()).into());
        let existed = self.present(&id)?;
        let block = (!existed).then_some((temp, block));
        let names = made.names;
        let image = NewImage { id: id.clone(), raw, block, names: names.clone() };
        self.publish(vec![image])?;
        Ok(Loaded { id, names, existed })
    }
}

/// What the configuration of an image that was made here says.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) created: SystemTime,
    pub(crate) comment: &'static str,
    pub(crate) config: ImageConfig,
    pub(crate) names: Vec<ImageName>,
}

/// The document, with Docker's names for its fields.
#[derive(Serialize)]
struct DocumentFile<'a> {
    created: &'a str,
    architecture: &'static str,
    os: &'static str,
    config: ConfigFile<'a>,
    rootfs: RootFsFile<'a>,
    history: [HistoryFile<'a>; 1],
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct RootFsFile<'a> {
    r#type: &'static str,
    diff_ids: [&'a Digest; 1],
}

#[derive(Serialize)]
struct HistoryFile<'a> {
    created: &'a str,
    comment: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFile<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<&'a str, Empty>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cmd: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<&'a str, Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<&'a serde_json::Value>,
}

impl<'a> ConfigFile<'a> {
    fn of(config: &'a ImageConfig) -> Self {
        let set = |names: &'a [String]| names.iter().map(|name| (&**name, Empty {})).collect();
        ConfigFile {
            user: config.user.as_deref(),
            exposed_ports: set(&config.exposed_ports),
            env: &config.env,
            entrypoint: &config.entrypoint,
            cmd: &config.cmd,
            volumes: set(&config.volumes),
            working_dir: config.working_dir.as_deref(),
            labels: &config.labels,
            stop_signal: config.stop_signal.map(|signal| signal.number().to_string()),
            healthcheck: config.healthcheck.as_ref(),
        }
    }
}

impl Made {
    fn document(&self, diff_id: &Digest) -> Result<String, ImageError> {
        let created = clock::format(self.created);
        let document = DocumentFile {
            created: &created,
            architecture: "amd64",
            os: "linux",
            config: ConfigFile::of(&self.config),
            rootfs: RootFsFile { r#type: "layers", diff_ids: [diff_id] },
            history: [HistoryFile { created: &created, comment: self.comment }],
        };
        let malformed = |error| ImageError::Config(crate::config::ConfigError::Json(error));
        let raw = serde_json::to_string(&document).map_err(malformed)?;
        // What is written must be what will be read.
        Document::parse(raw.as_bytes()).map_err(ImageError::Config)?;
        Ok(raw)
    }
}
