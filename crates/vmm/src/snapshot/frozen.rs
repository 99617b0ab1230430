//! A snapshot that is to be restored: checked, its memory made whole, opened. Called by shims, and by the
//! runtime to check one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::capture::Origin;
use super::seal::{self, Manifest};
use super::{Delta, FORMAT, Layers, Paths, Sketch, read_json};
use crate::cache;
use crate::command::Start;
use crate::error::Error;
use crate::host;
use crate::launch::{self, Parts};
use crate::process::Limit;
use crate::restore::{Memory, RestoreRequest, Thawed, thaw};
use crate::sparse;
use crate::template::{Zeros, blocking, content};
use crate::vm::Vm;

/// How much the host's clock may differ from what the guest was told, in parts per million.
const CLOCK_PPM: u64 = 200;
/// The most pieces a memory may be in: all its pages, each alone.
const MEMORY_EXTENTS: usize = 1 << 22;

/// A captured VM, open: it can be restored even after its directory was removed.
#[derive(Debug)]
pub struct Frozen {
    sketch: Sketch,
    state: File,
    ram: Arc<File>,
    layers: Layers,
}

/// How far a snapshot is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// What has changed since it was last checked.
    AsDue,
    /// All of it.
    Full,
}

/// What a check has seen, for later ones. Files that are shared by links change their change time when
/// somebody else gets or gives up a link, so it is their modification time that counts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    boot_id: String,
    files: Vec<(String, Seen)>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Seen {
    fn of(path: &Path) -> io::Result<Seen> {
        let meta = fs::metadata(path)?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Ok(Seen { device: meta.dev(), inode: meta.ino(), bytes: meta.size(), modified })
    }
}

impl Frozen {
    /// Opens a sealed snapshot. What was not checked since the host booted, or has changed since, is
    /// checked; the first time its memory is made whole.
    ///
    /// # Errors
    /// [`Error::Unfit`] when it is damaged, or was captured with another QEMU, CPU or accelerator.
    pub async fn open(dir: &Path) -> Result<Self, Error> {
        let dir = dir.to_owned();
        blocking(move || {
            check(&dir, Depth::AsDue)?;
            Self::open_checked(&dir)
        })
        .await
    }

    /// Opens what was captured a moment ago, and nobody else has had in his hands.
    ///
    /// # Errors
    /// When a file can't be read, or the memory not be made whole.
    pub async fn open_fresh(dir: &Path) -> Result<Self, Error> {
        let dir = dir.to_owned();
        blocking(move || Self::open_checked(&dir)).await
    }

    /// Checks all of a sealed snapshot, now.
    ///
    /// # Errors
    /// [`Error::Unfit`] with what is wrong with it.
    pub async fn verify(dir: &Path) -> Result<(), Error> {
        let dir = dir.to_owned();
        blocking(move || check(&dir, Depth::Full)).await
    }

    fn open_checked(dir: &Path) -> Result<Self, Error> {
        let paths = Paths::of(dir);
        let sketch: Sketch = read_json(&paths.named("sketch.json"))?;
        suits(&sketch).map_err(unfit(dir))?;
        let open = |path: PathBuf| File::open(&path).map_err(Error::io("open", path));
        let base = Arc::new(open(paths.named("base"))?);
        let memory_pages = sketch.binding.shape.memory_bytes() / super::delta::PAGE as u64;
        let delta = |number| -> Result<Arc<Delta>, Error> {
            let path = paths.delta(number);
            let opened = Delta::open(open(path.clone())?, memory_pages);
            opened.map(Arc::new).map_err(Error::io("read", path))
        };
        let deltas = (0..sketch.deltas).map(delta).collect::<Result<Vec<_>, Error>>()?;
        let mapped = deltas.len();
        let layers = Layers { base, base_content: sketch.base.clone(), deltas, mapped };
        let ram = Arc::new(whole(&paths, &layers)?);
        Ok(Frozen { state: open(paths.named("state"))?, sketch, ram, layers })
    }

    /// What its guest has kept in its memory.
    pub fn mark(&self) -> Option<[u8; 16]> {
        host::unhex(&self.sketch.mark)
    }

    /// Restores it. Returns when the vCPUs run; nothing was said on the channel.
    ///
    /// To be called on a thread that lives as long as the process: QEMU dies with it.
    ///
    /// # Errors
    /// One for each step; a QEMU that ended is quoted.
    pub async fn restore(self, request: RestoreRequest) -> Result<Vm, Error> {
        let limit = Limit::of(request.within);
        request.check()?;
        let binding = &self.sketch.binding;
        let parts = Parts {
            engine: binding.engine.path(),
            accelerator: binding.accelerator,
            machine: &binding.machine,
            shape: binding.shape,
            start: Start::Captured,
            files: launch::Files {
                image: &request.image,
                disk: &request.disk,
                durability: request.durability,
                console: &request.console,
                user: request.user,
                boot: &[],
            },
        };
        let memory = Memory { state: self.state, ram: &self.ram };
        let Thawed { process, qmp, channel, timings } = thaw(parts, memory, limit).await?;
        let kept = (self.sketch.binding, self.sketch.tsc_khz);
        let origin = Origin::new(kept, self.layers, self.ram.clone(), request.durability);
        Ok(Vm::new((process, qmp, channel), timings, origin))
    }
}

fn unfit(dir: &Path) -> impl Fn(String) -> Error {
    move |reason| Error::Unfit { path: dir.to_owned(), reason }
}

/// Whether this host can run it.
fn suits(sketch: &Sketch) -> Result<(), String> {
    let binding = &sketch.binding;
    if sketch.format != FORMAT {
        return Err(format!("its format is {}; this build knows {FORMAT}", sketch.format));
    }
    if !binding.engine.is_unchanged() {
        let (path, version) = (binding.engine.path().display(), binding.engine.version());
        return Err(format!("it was captured with another build of {path} (version {version})"));
    }
    if let Some(cpu) = &binding.host_cpu
        && host::cpu_digest().ok().as_ref() != Some(cpu)
    {
        return Err("it was captured on another CPU".to_owned());
    }
    Ok(())
}

fn check(dir: &Path, depth: Depth) -> Result<(), Error> {
    let (paths, unfit) = (Paths::of(dir), unfit(dir));
    if !dir.exists() {
        return Err(Error::io("open", dir)(io::ErrorKind::NotFound.into()));
    }
    let manifest = seal::read(&paths).map_err(&unfit)?;
    let stamp = stamp(&paths, &manifest).map_err(&unfit)?;
    let path = paths.named("verified");
    if depth == Depth::AsDue && known(&path).is_some_and(|known| known == stamp) {
        return Ok(());
    }
    for (name, said) in &manifest.files {
        let file = File::open(paths.named(name)).map_err(|error| unfit(missing(name, &error)))?;
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        if bytes != said.bytes {
            return Err(unfit(format!("its {name} has {bytes} bytes, not {}", said.bytes)));
        }
        let is = content(&file, Zeros::Leave).map_err(|error| unfit(missing(name, &error)))?;
        if is != *said {
            return Err(unfit(format!("its {name} is damaged")));
        }
    }
    let sketch: Sketch = read_json(&paths.named("sketch.json"))?;
    suits(&sketch).map_err(&unfit)?;
    let is = host::tsc_khz(dir)?;
    if is.abs_diff(sketch.tsc_khz) * 1_000_000 > sketch.tsc_khz * CLOCK_PPM {
        let said = sketch.tsc_khz;
        let reason =
            format!("the host's clock runs at {is} kHz, and its guest counts on {said} kHz");
        return Err(unfit(reason));
    }
    // Without a place to write to, all is read again next time, which is right.
    let _ = cache::replace(&path, &stamp);
    Ok(())
}

fn missing(name: &str, error: &io::Error) -> String {
    format!("its {name} can't be read: {error}")
}

fn known(path: &Path) -> Option<Stamp> {
    serde_json::from_slice(&cache::read_bounded(path).ok()?).ok()
}

fn stamp(paths: &Paths, manifest: &Manifest) -> Result<Stamp, String> {
    let boot_id = host::boot_id().map_err(|error| missing("host's boot id", &error))?;
    let names = manifest.files.keys().map(String::as_str).chain(["manifest.json"]);
    let seen = |name: &str| {
        let seen = Seen::of(&paths.named(name)).map_err(|error| missing(name, &error))?;
        Ok((name.to_owned(), seen))
    };
    Ok(Stamp { boot_id, files: names.map(seen).collect::<Result<_, String>>()? })
}

/// The memory as a whole: as it was made once, if it is still that, or made now.
fn whole(paths: &Paths, layers: &Layers) -> Result<File, Error> {
    if layers.deltas.is_empty() {
        return layers.base.try_clone().map_err(Error::prepare("a memory"));
    }
    let (path, stamp) = (paths.named("ram"), paths.named("ram.made"));
    let made = cache::read_bounded(&stamp).ok();
    let made = made.and_then(|bytes| serde_json::from_slice::<(String, Seen)>(&bytes).ok());
    let is = || Some((host::boot_id().ok()?, Seen::of(&path).ok()?));
    if made.is_some() && made == is() {
        return File::open(&path).map_err(Error::io("open", path));
    }
    // Under another name, so that nobody maps half of it; of two that make it at once either one's is it.
    let fresh = paths.named(&format!("ram.{}", std::process::id()));
    // Left by one that was killed and had our number.
    let _ = fs::remove_file(&fresh);
    let result = make(&fresh, layers).and_then(|file| {
        fs::rename(&fresh, &path).map_err(Error::io("make", &path))?;
        if let Some(made) = is() {
            // Without it the next one makes it again.
            let _ = cache::replace(&stamp, &made);
        }
        Ok(file)
    });
    result.inspect_err(|_| drop(fs::remove_file(&fresh)))
}

fn make(fresh: &Path, layers: &Layers) -> Result<File, Error> {
    let failed = || Error::io("write", fresh);
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).open(fresh).map_err(failed())?;
    let fill = || -> io::Result<()> {
        let length = layers.base.metadata()?.len();
        let extents = sparse::extents(&layers.base, MEMORY_EXTENTS)?;
        sparse::copy(&layers.base, &extents, &file, length)?;
        layers.deltas.iter().try_for_each(|delta| delta.apply(&file))
    };
    fill().map_err(failed())?;
    // Who maps it can't write to it.
    File::open(fresh).map_err(failed())
}
