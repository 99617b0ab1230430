//! Layers and archives.

use std::io::Write;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// A tar in the making. Paths and links are written as they are, checks are the reader's.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Tar::default()
    }

    /// Any entry; `edit` may change the header before its checksum is made.
    pub(crate) fn entry(
        mut self,
        kind: EntryType,
        path: &[u8],
        data: &[u8],
        edit: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        if path.len() > 100 {
            let no_edit: fn(&mut Header) = |_| {};
            self = self.entry(EntryType::GNULongName, b"././@LongLink", path, no_edit);
        }
        let short = &path[..path.len().min(100)];
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        edit(&mut header);
        header.set_cksum();
        self.raw(header.as_bytes()).raw(data).pad()
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn pad(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, data: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, path.as_bytes(), data.as_ref(), |_| {})
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.dir_mode(path, 0o755)
    }

    pub(crate) fn dir_mode(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path.as_bytes(), b"", |header| header.set_mode(mode))
    }

    pub(crate) fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        let tar = match target.len() > 100 {
            true => self.entry(EntryType::GNULongLink, b"././@LongLink", target.as_bytes(), |_| {}),
            false => self,
        };
        tar.entry(kind, path.as_bytes(), b"", |header| {
            let short = &target.as_bytes()[..target.len().min(100)];
            header.as_old_mut().linkname[..short.len()].copy_from_slice(short);
        })
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    pub(crate) fn device(self, kind: EntryType, path: &str, (major, minor): (u32, u32)) -> Self {
        self.entry(kind, path.as_bytes(), b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    /// A PAX header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(EntryType::XHeader, b"PaxHeaders/x", &body, |_| {})
    }

    /// Ends the tar.
    pub(crate) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A configuration with these plain layers.
pub(crate) fn config(layers: &[Vec<u8>]) -> String {
    let ids: Vec<String> =
        layers.iter().map(|layer| format!("\"sha256:{}\"", sha256(layer))).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-05-27T03:04:05Z",
            "config":{{"Cmd":["sh"],"Env":["PATH=/bin"]}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
}

/// A Docker archive of images with these tags and plain layers.
pub(crate) fn docker(images: &[(&[&str], &[Vec<u8>])]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut manifest = Vec::new();
    for (at, (tags, layers)) in images.iter().enumerate() {
        let config = config(layers);
        let name = format!("{}.json", sha256(config.as_bytes()));
        let mut paths = Vec::new();
        if !manifest.iter().any(|item: &String| item.contains(&name)) {
            tar = tar.file(&name, &config);
        }
        for (layer_at, layer) in layers.iter().enumerate() {
            let path = format!("{at}-{layer_at}/layer.tar");
            tar = tar.file(&path, layer);
            paths.push(path);
        }
        manifest.push(item(&name, tags, &paths));
    }
    tar.file("manifest.json", format!("[{}]", manifest.join(","))).end()
}

/// One item of a `manifest.json`.
pub(crate) fn item(config: &str, tags: &[&str], layers: &[String]) -> String {
    format!(r#"{{"Config":"{config}","RepoTags":{tags:?},"Layers":{layers:?}}}"#)
}

/// One image by its parts: what hostile archives change.
pub(crate) struct Parts {
    pub(crate) config: String,
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Parts {
    pub(crate) fn of(layers: Vec<Vec<u8>>) -> Self {
        Parts { config: config(&layers), layers }
    }

    pub(crate) fn docker(&self) -> Vec<u8> {
        let mut tar = Tar::new().file("config.json", &self.config);
        let mut paths = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            paths.push(format!("{at}.tar"));
            tar = tar.file(&paths[at], layer);
        }
        tar.file("manifest.json", format!("[{}]", item("config.json", &["bad:1"], &paths))).end()
    }
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How a layer is stored: the end of its media type, and its compression.
pub(crate) type Form = (&'static str, fn(&[u8]) -> Vec<u8>);

pub(crate) const PLAIN: Form = ("", <[u8]>::to_vec);

/// The blobs of an OCI layout in the making.
#[derive(Default)]
pub(crate) struct Oci {
    blobs: Vec<(String, Vec<u8>)>,
    manifests: Vec<String>,
}

impl Oci {
    /// Adds a blob and gives its descriptor, with more fields in `more` (with a leading comma).
    pub(crate) fn blob(&mut self, media_type: &str, bytes: &[u8], more: &str) -> String {
        let digest = sha256(bytes);
        let size = bytes.len();
        self.blobs.push((format!("blobs/sha256/{digest}"), bytes.to_vec()));
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{digest}","size":{size}{more}}}"#)
    }

    /// Adds an image with these layers, stored as `store` makes them, and gives the descriptor of
    /// its manifest.
    pub(crate) fn image(
        &mut self,
        layers: &[Vec<u8>],
        (suffix, store): Form,
        more: &str,
    ) -> String {
        let stored: Vec<String> = layers
            .iter()
            .map(|layer| self.blob(&format!("{LAYER}{suffix}"), &store(layer), ""))
            .collect();
        let config = self.blob(CONFIG, config(layers).as_bytes(), "");
        self.manifest(&config, &stored, more)
    }

    pub(crate) fn manifest(&mut self, config: &str, layers: &[String], more: &str) -> String {
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{}]}}"#,
            layers.join(",")
        );
        self.blob(MANIFEST, manifest.as_bytes(), more)
    }

    /// Adds an index of these descriptors.
    pub(crate) fn index(&mut self, manifests: &[String], more: &str) -> String {
        self.blob(INDEX, index(manifests).as_bytes(), more)
    }

    /// Moves the blob added last to the path of another digest, and gives its descriptor.
    pub(crate) fn forge(&mut self, descriptor: &str) -> String {
        let (path, bytes) = self.blobs.last_mut().unwrap();
        let (old, new) = (sha256(bytes), sha256(b"something else"));
        *path = format!("blobs/sha256/{new}");
        descriptor.replace(&old, &new)
    }

    /// Names a descriptor in `index.json`.
    pub(crate) fn name(&mut self, descriptor: String) {
        self.manifests.push(descriptor);
    }

    fn files(mut self) -> Vec<(String, Vec<u8>)> {
        self.blobs.sort();
        self.blobs.dedup();
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        let index = index(&self.manifests).into_bytes();
        self.blobs.push(("oci-layout".to_owned(), version));
        self.blobs.push(("index.json".to_owned(), index));
        self.blobs
    }

    pub(crate) fn archive(self) -> Vec<u8> {
        self.files().iter().fold(Tar::new(), |tar, (path, bytes)| tar.file(path, bytes)).end()
    }

    pub(crate) fn layout(self, dir: &Path) {
        for (path, bytes) in self.files() {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn index(manifests: &[String]) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, manifests.join(","))
}

/// Annotations for a descriptor's `more`.
pub(crate) fn annotations(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{key:?}:{value:?}")).collect();
    format!(r#","annotations":{{{}}}"#, pairs.join(","))
}

/// A platform for a descriptor's `more`.
pub(crate) fn platform(os: &str, architecture: &str) -> String {
    format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
}
