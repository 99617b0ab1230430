//! What an image says about running it, checked once. Made from the configuration document when an
//! image is loaded or found in the store; the runtime reads it.

use std::collections::BTreeMap;

use boxwood_types::{Digest, Signal};
use oci_spec::image::{Arch, Config, ImageConfiguration, Os};
use serde::Deserialize;

use crate::json;
use crate::limits;

/// How to run an image: Docker's and OCI's `config` object. No text has a NUL in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageConfig {
    /// The program and its first arguments, before `cmd`.
    pub entrypoint: Vec<String>,
    /// The default arguments, or the program when there is no entrypoint. May be empty as well:
    /// then the user has to name a command.
    pub cmd: Vec<String>,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`, …, to be looked up in the image; None for root.
    pub user: Option<String>,
    /// The working directory; None for the root directory.
    pub working_dir: Option<String>,
    /// The signal that asks the main process to end; None for SIGTERM.
    pub stop_signal: Option<Signal>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `80/tcp` and the like, sorted. A declaration only.
    pub exposed_ports: Vec<String>,
    /// Directories that want a volume, sorted. A declaration only.
    pub volumes: Vec<String>,
    /// Docker's health check as it stands in the document.
    pub healthcheck: Option<serde_json::Value>,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No JSON, or not of the right shape.
    #[error("the image's configuration is malformed")]
    Json(#[source] serde_json::Error),
    /// Another operating system or architecture.
    #[error("the image is for {os}/{architecture}; boxes run linux/amd64 images only")]
    Platform {
        /// The image's operating system.
        os: String,
        /// The image's architecture.
        architecture: String,
    },
    /// A value that can't be used.
    #[error("the image's configuration is malformed: {0}")]
    Value(String),
}

/// All of a configuration document that matters here.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) config: ImageConfig,
    pub(crate) created: Option<String>,
    pub(crate) diff_ids: Vec<Digest>,
}

/// What oci-spec leaves out: Docker's extension.
#[derive(Deserialize)]
struct Extension {
    #[serde(default)]
    config: Option<ExtensionConfig>,
}

#[derive(Deserialize)]
struct ExtensionConfig {
    #[serde(default, rename = "Healthcheck")]
    healthcheck: Option<serde_json::Value>,
}

impl Document {
    /// Reads and checks a document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let document: ImageConfiguration = json::parse(bytes).map_err(ConfigError::Json)?;
        let extension: Extension = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        if (document.os(), document.architecture()) != (&Os::Linux, &Arch::Amd64) {
            let brief = |text: String| text.chars().take(40).collect();
            let os = brief(document.os().to_string());
            let architecture = brief(document.architecture().to_string());
            return Err(ConfigError::Platform { os, architecture });
        }
        let malformed = |reason: &str| ConfigError::Value(reason.to_owned());
        if document.rootfs().typ() != "layers" {
            return Err(malformed("its rootfs is not of type 'layers'"));
        }
        let diff_ids = document.rootfs().diff_ids();
        if diff_ids.len() > limits::LAYERS {
            let (has, limit) = (diff_ids.len(), limits::LAYERS);
            return Err(ConfigError::Value(format!("it has {has} layers; {limit} is the limit")));
        }
        let diff_ids = diff_ids.iter().map(|id| id.parse()).collect::<Result<_, _>>();
        let diff_ids = diff_ids.map_err(|_| malformed("a diff_id is no sha256 digest"))?;
        let mut config = match document.config() {
            Some(config) => ImageConfig::check(config)?,
            None => ImageConfig::default(),
        };
        config.healthcheck = extension.config.and_then(|config| config.healthcheck);
        Ok(Document { config, created: document.created().clone(), diff_ids })
    }
}

impl ImageConfig {
    fn check(claimed: &Config) -> Result<Self, ConfigError> {
        let mut exposed_ports = claimed.exposed_ports().clone().unwrap_or_default();
        let mut volumes = claimed.volumes().clone().unwrap_or_default();
        exposed_ports.sort();
        volumes.sort();
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let stop_signal = text(claimed.stop_signal()).map(|signal| signal.parse::<Signal>());
        let stop_signal =
            stop_signal.transpose().map_err(|error| ConfigError::Value(error.to_string()))?;
        let config = ImageConfig {
            entrypoint: claimed.entrypoint().clone().unwrap_or_default(),
            cmd: claimed.cmd().clone().unwrap_or_default(),
            env: claimed.env().clone().unwrap_or_default(),
            user: text(claimed.user()),
            working_dir: text(claimed.working_dir()),
            stop_signal,
            labels: claimed.labels().clone().unwrap_or_default().into_iter().collect(),
            exposed_ports,
            volumes,
            healthcheck: None,
        };
        config.check_texts()?;
        Ok(config)
    }

    /// Whether every text can be passed to a program.
    pub(crate) fn check_texts(&self) -> Result<(), ConfigError> {
        let lists = [&self.entrypoint, &self.cmd, &self.env, &self.exposed_ports, &self.volumes];
        let mut texts = lists.into_iter().flatten().chain(&self.user).chain(&self.working_dir);
        if texts.any(|text| text.contains('\0')) {
            return Err(ConfigError::Value("a text has a NUL in it".into()));
        }
        if self.env.iter().any(|variable| variable.is_empty() || variable.starts_with('=')) {
            return Err(ConfigError::Value("a variable of its environment has no name".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(config: &str) -> String {
        format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},
                "rootfs":{{"type":"layers","diff_ids":[]}},"history":null,"docker_version":"x"}}"#
        )
    }

    #[test]
    fn what_docker_writes_is_read() {
        let text = document(
            r#"{"Hostname":"","Env":["A=b=c","PATH=/bin"],"Cmd":["sh"],"Entrypoint":null,
                "Volumes":{"/v":{},"/a":{}},"ExposedPorts":null,"Labels":null,"User":"",
                "WorkingDir":"/w","StopSignal":"SIGRTMIN+3","OnBuild":null,
                "Healthcheck":{"Test":["CMD","x"],"Interval":5}}"#,
        );
        let config = Document::parse(text.as_bytes()).unwrap().config;
        assert_eq!(config.cmd, ["sh"]);
        assert_eq!(config.env, ["A=b=c", "PATH=/bin"]);
        assert_eq!(config.volumes, ["/a", "/v"]);
        assert_eq!(config.user, None);
        assert_eq!(config.working_dir.as_deref(), Some("/w"));
        assert_eq!(config.stop_signal.map(Signal::number), Some(37));
        assert_eq!(config.healthcheck.unwrap()["Interval"], 5);
    }

    #[test]
    fn an_image_without_a_command_is_fine_here() {
        let config = Document::parse(document("{}").as_bytes()).unwrap().config;
        assert_eq!(config, ImageConfig::default());
        assert!(Document::parse(document("null").as_bytes()).is_ok());
    }

    #[test]
    fn another_platform_is_refused() {
        for (from, to) in [("amd64", "arm64"), ("linux", "windows"), ("amd64", "AMD64")] {
            let error = Document::parse(document("{}").replace(from, to).as_bytes()).unwrap_err();
            assert!(error.to_string().contains("linux/amd64"), "{error}");
            assert!(error.to_string().contains(to), "{error}");
        }
    }

    #[test]
    fn values_no_program_could_get_are_refused() {
        for bad in [
            r#"{"Env":["=x"]}"#,
            r#"{"Env":[""]}"#,
            r#"{"Cmd":["a\u0000b"]}"#,
            r#"{"StopSignal":"SIGNOPE"}"#,
            r#"{"Cmd":"sh"}"#,
            r#"{"Cmd":["a"],"Cmd":["b"]}"#,
        ] {
            assert!(Document::parse(document(bad).as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_layers_than_the_limit_are_refused() {
        let digest = format!("\"{}\"", Digest::from_bytes(&[1; 32]));
        let many = document("{}").replace("[]", &format!("[{}]", vec![digest; 129].join(",")));
        let error = Document::parse(many.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("129 layers"), "{error}");
    }
}
