//! A snapshot that is to be restored: checked and opened. Called by shims, and by the runtime to check one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::capture::Origin;
use super::seal::{self, Manifest};
use super::whole::{self, Unfinished};
use super::{Delta, FORMAT, Layers, Part, Paths, SKETCH, Sketch, read_json};
use crate::accel::Accelerator;
use crate::blocking::blocking;
use crate::cache;
use crate::command::{self, Start};
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::host;
use crate::launch::{self, Parts};
use crate::process::Limit;
use crate::restore::{Memory, RestoreRequest, Thawed, thaw};
use crate::template::{Content, Zeros, content};
use crate::vm::Vm;

/// How much the host's clock may differ from what the guest was told, in parts per million.
const CLOCK_PPM: u64 = 200;

/// A captured VM, open: it can be restored even after its directory was removed.
#[derive(Debug)]
pub struct Frozen {
    sketch: Sketch,
    state: File,
    /// What QEMU maps.
    ram: Arc<File>,
    layers: Layers,
    /// The snapshot's.
    directory: Arc<File>,
}

/// When a memory that is in layers is made whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    /// Before the first restore: there are more to come that share it.
    First,
    /// Later, if there is little to write into the VM instead.
    Later,
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
pub(super) struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Seen {
    pub(super) fn of(path: &Path) -> io::Result<Seen> {
        let meta = fs::metadata(path)?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Ok(Seen { device: meta.dev(), inode: meta.ino(), bytes: meta.size(), modified })
    }
}

impl Frozen {
    /// Opens a sealed snapshot. What was not checked since the host booted, or has changed since, is
    /// checked; a large memory is made whole the first time. In `cache` is what was found out about the host.
    ///
    /// # Errors
    /// [`Error::Unfit`] when it is damaged; [`Error::Foreign`] when it was captured with another QEMU,
    /// CPU or accelerator; [`Error::DiskAlone`].
    pub async fn open(dir: &Path, cache: &Path) -> Result<Self, Error> {
        let (dir, cache) = (dir.to_owned(), cache.to_owned());
        blocking(move || {
            if check(&dir, Depth::AsDue, Part::Everything, &cache)? == Part::Disk {
                return Err(Error::DiskAlone { path: dir });
            }
            Self::open_checked(&dir, Whole::Later)
        })
        .await
    }

    /// Checks the disk of a sealed snapshot in the same way, on whatever host it was captured.
    ///
    /// # Errors
    /// [`Error::Unfit`] when it is damaged.
    pub async fn check_disk(dir: &Path) -> Result<(), Error> {
        let dir = dir.to_owned();
        blocking(move || check(&dir, Depth::AsDue, Part::Disk, &dir).map(drop)).await
    }

    /// Whether boxes would run here as this one did: with this QEMU, in this way.
    ///
    /// # Errors
    /// [`Error::Foreign`] when not.
    pub fn fits(&self, engine: &Engine, accelerator: Accelerator, dir: &Path) -> Result<(), Error> {
        let binding = &self.sketch.binding;
        let said = |engine: &Engine| format!("{} ({})", engine.path().display(), engine.version());
        let reason = if binding.accelerator != accelerator {
            format!(
                "it was captured with {}, and boxes run with {accelerator}",
                binding.accelerator
            )
        } else if binding.engine != *engine {
            let (was, is) = (said(&binding.engine), said(engine));
            format!("it was captured with the QEMU {was}, and boxes run with {is}")
        } else {
            return Ok(());
        };
        Err(Error::Foreign { path: dir.to_owned(), reason })
    }

    /// Opens what was captured a moment ago, and nobody else has had in his hands.
    ///
    /// # Errors
    /// When a file can't be read, or the memory not be made whole.
    pub async fn open_fresh(dir: &Path) -> Result<Self, Error> {
        let dir = dir.to_owned();
        blocking(move || Self::open_checked(&dir, Whole::First)).await
    }

    /// Checks all of a sealed snapshot, now.
    ///
    /// # Errors
    /// [`Error::Unfit`] with what is wrong with it.
    pub async fn verify(dir: &Path, cache: &Path) -> Result<(), Error> {
        let (dir, cache) = (dir.to_owned(), cache.to_owned());
        blocking(move || {
            if check(&dir, Depth::Full, Part::Everything, &cache)? == Part::Everything {
                // What was made of it can't be compared with anything, so it is made again.
                let _ = fs::remove_file(Paths::of(&dir).named("ram.made"));
            }
            Ok(())
        })
        .await
    }

    fn open_checked(dir: &Path, when: Whole) -> Result<Self, Error> {
        let paths = Paths::of(dir);
        // Before its files: what is made of them goes into no other that has its name later.
        let directory = Arc::new(File::open(dir).map_err(Error::io("open", dir))?);
        let sketch: Sketch = read_json(&paths.named(SKETCH))?;
        suits(&sketch, dir)?;
        let open = |path: PathBuf| File::open(&path).map_err(Error::io("open", path));
        let base = Arc::new(open(paths.named("base"))?);
        let memory_pages = sketch.binding.shape.memory_bytes() / super::delta::PAGE as u64;
        let delta = |number| -> Result<Arc<Delta>, Error> {
            let path = paths.delta(number);
            let opened = Delta::open(open(path.clone())?, memory_pages);
            opened.map(Arc::new).map_err(Error::io("read", path))
        };
        let deltas = (0..sketch.deltas).map(delta).collect::<Result<Vec<_>, Error>>()?;
        let mut layers = Layers { base, base_content: sketch.base.clone(), deltas, mapped: 0 };
        let ram = match whole::find(&paths, &layers)? {
            None if when == Whole::Later && whole::can_wait(&paths, &layers) => None,
            None => Some(whole::make(&paths, &layers)?),
            found => found,
        };
        let ram = match ram {
            Some(ram) => {
                layers.mapped = layers.deltas.len();
                Arc::new(ram)
            }
            None => layers.base.clone(),
        };
        Ok(Frozen { state: open(paths.named("state"))?, sketch, ram, layers, directory })
    }

    /// What is to be done for later restores, once this one has all that it needs.
    pub fn unfinished(&self) -> Option<Unfinished> {
        let whole = self.layers.mapped == self.layers.deltas.len();
        (!whole).then(|| Unfinished::new(&self.directory, &self.layers))
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
    pub async fn restore(mut self, request: RestoreRequest) -> Result<Vm, Error> {
        request.check()?;
        let thawed = match self.thaw(&request).await {
            Err(Error::FillMemory { source, .. }) if is_forbidden(&source) => {
                self.make_whole().await?;
                self.thaw(&request).await?
            }
            thawed => thawed?,
        };
        let Thawed { process, qmp, channel, timings } = thawed;
        let kept = (self.sketch.binding, self.sketch.tsc_khz);
        let origin = Origin::new(kept, self.layers, self.ram.clone(), request.durability);
        Ok(Vm::new((process, qmp, channel), timings, origin))
    }

    /// Lets it run in a QEMU of its own, which begins to read the state only when it has all of its memory.
    async fn thaw(&self, request: &RestoreRequest) -> Result<Thawed, Error> {
        let limit = Limit::of(request.within);
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
        let state = self.state.try_clone().map_err(Error::prepare("a state"))?;
        let written = &self.layers.deltas[self.layers.mapped..];
        thaw(parts, Memory { state, ram: &self.ram, written }, limit).await
    }

    /// From now on all of the memory is in what QEMU maps.
    async fn make_whole(&mut self) -> Result<(), Error> {
        let wanted = Unfinished::new(&self.directory, &self.layers);
        self.ram = Arc::new(blocking(move || wanted.make_now()).await?);
        self.layers.mapped = self.layers.deltas.len();
        Ok(())
    }
}

/// Whether it is that this process may not write into another's memory: so it is with Yama's `ptrace_scope`,
/// without the capability to, and, where the other can't even be seen, with `hidepid` (proc(5)).
fn is_forbidden(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

fn unfit(dir: &Path) -> impl Fn(String) -> Error {
    move |reason| Error::Unfit { path: dir.to_owned(), reason }
}

/// Whether this host can run it.
pub(super) fn suits(sketch: &Sketch, dir: &Path) -> Result<(), Error> {
    let binding = &sketch.binding;
    let foreign = |reason| Err(Error::Foreign { path: dir.to_owned(), reason });
    if sketch.format != FORMAT {
        return foreign(format!("its format is {}; this build knows {FORMAT}", sketch.format));
    }
    if !binding.engine.is_unchanged() {
        let (path, version) = (binding.engine.path().display(), binding.engine.version());
        return foreign(format!("it was captured with another build of {path} ({version})"));
    }
    // What QEMU is told is never taken from a snapshot: it may have come from anywhere.
    if binding.machine != command::machine(binding.shape, binding.accelerator) {
        return foreign("it was captured by a build with another machine".to_owned());
    }
    if let Some(cpu) = &binding.host_cpu
        && host::cpu_digest().ok().as_ref() != Some(cpu)
    {
        return foreign("it was captured on another CPU".to_owned());
    }
    Ok(())
}

/// Checks a snapshot that need not be able to go on here.
pub(super) fn check_sealed(dir: &Path) -> Result<(), Error> {
    match check(dir, Depth::AsDue, Part::Everything, dir) {
        Ok(_) | Err(Error::Foreign { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Checks a part of a snapshot, as far as it has that; says what it has.
fn check(dir: &Path, depth: Depth, part: Part, cache: &Path) -> Result<Part, Error> {
    let (paths, unfit) = (Paths::of(dir), unfit(dir));
    if !dir.exists() {
        return Err(Error::io("open", dir)(io::ErrorKind::NotFound.into()));
    }
    let manifest = seal::read(&paths).map_err(&unfit)?;
    let has = manifest.part();
    let stamp_path = paths.named("verified");
    // A file that is not there has no stamp, and need not matter.
    let stamp = stamp(&paths, &manifest);
    let is_known = || known(&stamp_path).is_some_and(|known| stamp.as_ref() == Ok(&known));
    if depth == Depth::AsDue && is_known() {
        return Ok(has);
    }
    let _alone = alone(dir)?;
    // Another may have read all of it meanwhile.
    if depth == Depth::AsDue && is_known() {
        return Ok(has);
    }
    let of_memory =
        |name: &str| ["base", "state", SKETCH].contains(&name) || name.starts_with("pages.");
    let wanted = manifest.files.iter();
    let mut wanted = wanted.filter(|(name, _)| part == Part::Everything || !of_memory(name));
    wanted.try_for_each(|(name, said)| check_file(&paths, name, said)).map_err(&unfit)?;
    if part == Part::Disk && has == Part::Everything {
        // Half of it was checked: nothing is to be known of the rest.
        return Ok(has);
    }
    let stamp = stamp.map_err(&unfit)?;
    if has == Part::Everything {
        let sketch: Sketch = read_json(&paths.named(SKETCH))?;
        suits(&sketch, dir)?;
        keeps_time(&sketch, dir, cache)?;
    }
    failpoint("restore: files checked");
    // Without a place to write to, all is read again next time, which is right.
    let _ = write_down(&paths, "verified", &stamp);
    Ok(has)
}

/// Writes down that all files are what they are said to be. Without that, they are read at the next use.
pub(super) fn note_checked(paths: &Paths, manifest: &Manifest) {
    if let Ok(stamp) = stamp(paths, manifest) {
        let _ = write_down(paths, "verified", &stamp);
    }
}

pub(super) fn check_file(paths: &Paths, name: &str, said: &Content) -> Result<(), String> {
    let file = File::open(paths.named(name)).map_err(|error| missing(name, &error))?;
    let bytes = file.metadata().map_or(0, |meta| meta.len());
    if bytes != said.bytes {
        return Err(format!("its {name} has {bytes} bytes, not {}", said.bytes));
    }
    let is = content(&file, Zeros::Leave).map_err(|error| missing(name, &error))?;
    if is == *said { Ok(()) } else { Err(format!("its {name} is damaged")) }
}

/// Whether the host's clock runs as the guest was told.
fn keeps_time(sketch: &Sketch, dir: &Path, cache: &Path) -> Result<(), Error> {
    let (is, said) = (host::tsc_khz(cache)?, sketch.tsc_khz);
    if is.abs_diff(said) * 1_000_000 <= said * CLOCK_PPM {
        return Ok(());
    }
    let reason = format!("the host's clock runs at {is} kHz, and its guest counts on {said} kHz");
    Err(Error::Foreign { path: dir.to_owned(), reason })
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

/// While this is held, nobody else makes anything in a snapshot's directory, and nothing that is being made
/// is taken for a leftover. Blocks.
pub(super) fn alone(dir: &Path) -> Result<File, Error> {
    let failed = || Error::io("lock", dir);
    let lock = File::open(dir).map_err(failed())?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed()(errno.into()))?;
    Ok(lock)
}

/// Writes down what was found out, so that others see all of it or nothing.
pub(super) fn write_down<T: Serialize>(paths: &Paths, name: &str, value: &T) -> io::Result<()> {
    let fresh = paths.named(&format!("{name}.new"));
    fs::write(&fresh, serde_json::to_vec(value)?)?;
    failpoint("restore: check written");
    fs::rename(fresh, paths.named(name))
}
