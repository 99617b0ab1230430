//! Makes a captured directory a snapshot that can be trusted later: digests of everything, on the disk
//! (contract S1). Called by the runtime; `frozen` checks them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Part, Paths, SKETCH, Sketch, frozen, read_json};
use crate::blocking::blocking;
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::host::hex;
use crate::template::{Content, Zeros, content};

/// What is in a sealed directory, by the names of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) files: BTreeMap<String, Content>,
}

impl Manifest {
    /// Whether it has the memory, too.
    pub(super) fn part(&self) -> Part {
        if self.files.contains_key(SKETCH) { Part::Everything } else { Part::Disk }
    }
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
    let mut manifest = Manifest::default();
    let mut names = paths.disk_names();
    names.extend(others.iter().map(|name| (*name).to_owned()));
    if paths.named(SKETCH).exists() {
        let sketch: Sketch = read_json(&paths.named(SKETCH))?;
        names.extend([SKETCH.to_owned(), "state".to_owned()]);
        names.extend((0..sketch.deltas).map(|number| format!("pages.{number}")));
        manifest.files.insert("base".to_owned(), sketch.base);
    }
    for name in &names {
        let path = paths.named(name);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let content = content(&file, Zeros::Leave).map_err(Error::io("read", &path))?;
        file.sync_all().map_err(Error::io("write", &path))?;
        manifest.files.insert(name.clone(), content);
    }
    // Plain data with text keys always becomes JSON.
    let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    let digest = hex(&Sha256::digest(&text)).into_bytes();
    for (name, bytes) in [("manifest.json", text), ("manifest.sha256", digest)] {
        let path = paths.named(name);
        let written = File::create_new(&path)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        written.map_err(Error::io("write", &path))?;
        failpoint("snapshot: manifest written");
    }
    // All of it has been read just now, so its first use need not read it again (contract S1).
    frozen::note_checked(&paths, &manifest);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("write", dir))
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
