//! Makes a captured directory a snapshot that can be trusted later: digests of everything, on the disk
//! (contract S1). Called by the runtime; `frozen` checks them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Paths, Sketch, read_json};
use crate::error::Error;
use crate::host::hex;
use crate::template::{Content, Zeros, blocking, content};

/// What is in a sealed directory, by the names of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) files: BTreeMap<String, Content>,
}

/// Seals a captured directory, with files that the caller has put there, too: what is in all of them is
/// written down, and everything is forced to the disk. Takes as long as reading what is new.
///
/// # Errors
/// When something can't be read or written; the directory is then to be thrown away.
pub async fn seal(dir: &Path, others: &'static [&'static str]) -> Result<(), Error> {
    let dir = dir.to_owned();
    blocking(move || seal_now(&dir, others)).await
}

fn seal_now(dir: &Path, others: &[&str]) -> Result<(), Error> {
    let paths = Paths::of(dir);
    let sketch: Sketch = read_json(&paths.named("sketch.json"))?;
    let mut manifest = Manifest::default();
    manifest.files.insert("base".to_owned(), sketch.base.clone());
    for name in
        names(&paths, sketch.deltas).iter().map(String::as_str).chain(others.iter().copied())
    {
        let path = paths.named(name);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let content = content(&file, Zeros::Leave).map_err(Error::io("read", &path))?;
        file.sync_all().map_err(Error::io("write", &path))?;
        manifest.files.insert(name.to_owned(), content);
    }
    // Plain data with text keys always becomes JSON.
    let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    let digest = hex(&Sha256::digest(&text)).into_bytes();
    for (name, bytes) in [("manifest.json", text), ("manifest.sha256", digest)] {
        let path = paths.named(name);
        let written = File::create_new(&path)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        written.map_err(Error::io("write", &path))?;
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("write", dir))
}

/// What a sealed directory has besides the base: each was new in some capture.
fn names(paths: &Paths, deltas: usize) -> Vec<String> {
    let mut names = vec!["sketch.json".to_owned(), "state".to_owned()];
    names.extend((0..deltas).map(|number| format!("pages.{number}")));
    names.extend((0..paths.disks().len()).map(|number| format!("disk.{number}")));
    names
}

/// What a sealed directory is to be, if its manifest is whole.
pub(super) fn read(paths: &Paths) -> Result<Manifest, String> {
    let read = |name: &str| {
        fs::read(paths.named(name)).map_err(|error| format!("its {name} can't be read: {error}"))
    };
    let (text, digest) = (read("manifest.json")?, read("manifest.sha256")?);
    if hex(&Sha256::digest(&text)).as_bytes() != digest {
        return Err("its manifest is damaged".to_owned());
    }
    serde_json::from_slice(&text).map_err(|error| format!("its manifest can't be read: {error}"))
}
