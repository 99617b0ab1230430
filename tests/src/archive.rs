//! Images for tests: layers, Docker archives and OCI archives, well made or not. Called by the tests
//! of images and by the benchmarks.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// A layer in the making.
pub struct Layer {
    tar: Builder<Vec<u8>>,
}

impl Default for Layer {
    fn default() -> Self {
        Layer::new()
    }
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Layer {
        Layer { tar: Builder::new(Vec::new()) }
    }

    /// A layer with the host's static busybox as `/bin/busybox` and `/bin/sh`, and root's account.
    ///
    /// # Panics
    /// When the host has no busybox.
    pub fn busybox() -> Layer {
        let program = fs::read("/bin/busybox").expect("the host has busybox-static");
        Layer::new()
            .folder("bin")
            .file("bin/busybox", 0o755, &program)
            .link(EntryType::Symlink, "bin/sh", "busybox")
            .folder("etc")
            .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:1234:5678::/srv:\n")
            .file("etc/group", 0o644, b"root:x:0:\nweb:x:5678:\nextra:x:77:web\n")
    }

    /// Any entry; `edit` changes its header first.
    ///
    /// # Panics
    /// When tar can't express it.
    #[must_use]
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        data: &[u8],
        edit: impl FnOnce(&mut Header),
    ) -> Layer {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        edit(&mut header);
        self.tar.append_data(&mut header, path, data).expect("a tar entry can be made");
        self
    }

    /// A file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, data: &[u8]) -> Layer {
        self.entry(EntryType::Regular, path, data, |header| header.set_mode(mode))
    }

    /// A folder.
    #[must_use]
    pub fn folder(self, path: &str) -> Layer {
        self.entry(EntryType::Directory, path, b"", |_| {})
    }

    /// A symbolic or hard link.
    ///
    /// # Panics
    /// When tar can't express it.
    #[must_use]
    pub fn link(mut self, kind: EntryType, path: &str, target: &str) -> Layer {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        self.tar.append_link(&mut header, path, target).expect("a link can be made");
        self
    }

    /// A device.
    ///
    /// # Panics
    /// When tar can't express it.
    #[must_use]
    pub fn device(self, kind: EntryType, path: &str, (major, minor): (u32, u32)) -> Layer {
        self.entry(kind, path, b"", |header| {
            header.set_device_major(major).expect("a small number");
            header.set_device_minor(minor).expect("a small number");
        })
    }

    /// An entry whose name is written as it is, also where tar itself would refuse it.
    ///
    /// # Panics
    /// When the name is longer than 100 bytes.
    #[must_use]
    pub fn hostile(mut self, kind: EntryType, path: &str, edit: impl FnOnce(&mut Header)) -> Layer {
        let mut header = Header::new_gnu();
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        edit(&mut header);
        header.set_cksum();
        self.tar.append(&header, &[][..]).expect("a tar entry can be made");
        self
    }

    /// The tar.
    ///
    /// # Panics
    /// Never: it is in memory.
    pub fn end(self) -> Vec<u8> {
        self.tar.into_inner().expect("memory takes everything")
    }
}

/// How a layer is stored in an OCI archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
}

impl Compression {
    /// These bytes, compressed.
    ///
    /// # Panics
    /// Never: it is in memory.
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Compression::None => bytes.to_owned(),
            Compression::Gzip => {
                let fast = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), fast);
                encoder.write_all(bytes).expect("memory takes everything");
                encoder.finish().expect("memory takes everything")
            }
            Compression::Zstd => zstd::encode_all(bytes, 1).expect("memory takes everything"),
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        }
    }
}

/// An image by its parts. What a test wants to be wrong it changes before it makes the archive.
pub struct Image {
    /// The configuration's `config` object: `Cmd`, `Env`…
    pub config: Value,
    /// `amd64`, unless a test wants another.
    pub architecture: &'static str,
    /// The plain layers, bottom first.
    pub layers: Vec<Vec<u8>>,
    /// What the configuration says about the layers instead of the truth.
    pub diff_ids: Option<Vec<String>>,
}

impl Image {
    /// An image of these layers that runs a shell.
    pub fn of(layers: Vec<Vec<u8>>) -> Image {
        let config = json!({ "Cmd": ["/bin/sh"], "Env": ["PATH=/bin"] });
        Image { config, architecture: "amd64", layers, diff_ids: None }
    }

    /// The same with this configuration.
    #[must_use]
    pub fn with(mut self, config: Value) -> Image {
        self.config = config;
        self
    }

    /// The image's configuration document.
    pub fn document(&self) -> Vec<u8> {
        let truth = || self.layers.iter().map(|layer| digest(layer)).collect();
        let diff_ids = self.diff_ids.clone().unwrap_or_else(truth);
        let document = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "2024-05-27T03:04:05Z",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        document.to_string().into_bytes()
    }

    /// As `docker save` writes it, with these tags.
    pub fn docker_archive(&self, tags: &[&str]) -> Vec<u8> {
        let names: Vec<String> =
            (0..self.layers.len()).map(|at| format!("layer-{at}/layer.tar")).collect();
        self.docker_archive_of(tags, &names)
    }

    /// The same, with the layers in files of these names: also such that can't be.
    pub fn docker_archive_of(&self, tags: &[&str], names: &[String]) -> Vec<u8> {
        let manifest = json!([{ "Config": "config.json", "RepoTags": tags, "Layers": names }]);
        let mut files = vec![
            ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
            ("config.json".to_owned(), self.document()),
        ];
        files.extend(names.iter().cloned().zip(self.layers.iter().cloned()));
        archive(&files)
    }

    /// As `skopeo copy ... oci-archive:` writes it, with these names.
    pub fn oci_archive(&self, names: &[&str], compression: Compression) -> Vec<u8> {
        const TYPE: &str = "application/vnd.oci.image";
        let mut blobs = Vec::new();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let kind = format!("{TYPE}.layer.v1.tar{}", compression.suffix());
                blob(&mut blobs, &kind, compression.of(layer))
            })
            .collect();
        let config = blob(&mut blobs, &format!("{TYPE}.config.v1+json"), self.document());
        let kind = format!("{TYPE}.manifest.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers,
        });
        let manifest = blob(&mut blobs, &kind, manifest.to_string().into_bytes());
        let named = names.iter().map(|name| {
            let mut named = manifest.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name,
            });
            named
        });
        let manifests: Vec<Value> = named.collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": format!("{TYPE}.index.v1+json"),
            "manifests": manifests,
        });
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        blobs.sort();
        blobs.dedup();
        blobs.push(("oci-layout".to_owned(), version));
        blobs.push(("index.json".to_owned(), index.to_string().into_bytes()));
        archive(&blobs)
    }
}

fn blob(blobs: &mut Vec<(String, Vec<u8>)>, kind: &str, bytes: Vec<u8>) -> Value {
    let digest = digest(&bytes);
    let descriptor = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
    let hex = digest.trim_start_matches("sha256:");
    blobs.push((format!("blobs/sha256/{hex}"), bytes));
    descriptor
}

/// A tar of these files, their names as they are.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_gnu();
        let place = &mut header.as_old_mut().name;
        place[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, &bytes[..]).expect("memory takes everything");
    }
    tar.into_inner().expect("memory takes everything")
}

/// `sha256:` and 64 digits.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Writes an archive to a file.
///
/// # Panics
/// When it can't be written.
pub fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = fs::write(path, bytes) {
        panic!("can't write {}: {error}", path.display());
    }
}
