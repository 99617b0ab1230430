//! The snapshots of a home: a directory each, made under another name and published whole. Used by the
//! runtime; shims write into the directories that are being made.
//!
//! What is in one besides [`SnapshotInfo`] is for `boxwood-vmm` to say.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use boxwood_types::{BoxId, BoxName};
use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::{BoxSpec, Home, StateError, atomic, failpoint};

/// The file with what people are told.
pub const INFO: &str = "snapshot.json";
/// The memory as a whole, and how it was when it was made.
const CACHE: [&str; 2] = ["ram", "ram.made"];
/// What is being made of it, by who holds a lock on its directory.
const HALF: [&str; 3] = ["ram.new", "ram.made.new", "verified.new"];
/// The size of a page of a box's memory, in bytes.
const PAGE: u64 = 4096;
const UNFINISHED: &str = ".";
const FRESH: &str = ".new-";

/// What of a box is in a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotPart {
    /// Its memory, with what runs in it, and its disk.
    #[default]
    Everything,
    /// Its disk alone.
    Disk,
}

/// What is told about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: BoxName,
    /// What tells it from another one of the same name.
    pub id: BoxId,
    /// When it was captured.
    pub created: Moment,
    /// The box that was captured, as it was.
    pub source: BoxSpec,
    /// How long that stood still, in microseconds.
    pub pause_us: u64,
    /// How many pages of memory were stored.
    pub pages: u64,
    /// What is in it.
    #[serde(default)]
    pub part: SnapshotPart,
}

impl SnapshotInfo {
    /// How much memory was stored, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE)
    }
}

/// What the files of a snapshot take on the disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSize {
    /// What goes with it.
    pub own: u64,
    /// What others need, too: templates, boxes, other snapshots.
    pub shared: u64,
    /// What of its own can be made again when it is needed.
    pub cache: u64,
}

/// A snapshot that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is.
    pub directory: PathBuf,
    /// What it is.
    pub info: SnapshotInfo,
}

impl Snapshot {
    /// What its files take on the disk.
    pub fn size(&self) -> SnapshotSize {
        let mut size = SnapshotSize::default();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let bytes = meta.blocks() * 512;
            match meta.nlink() {
                0 | 1 => size.own += bytes,
                _ => size.shared += bytes,
            }
            if entry.file_name() == CACHE[0] {
                size.cache += bytes;
            }
        }
        size
    }

    /// Deletes what can be made again. Boxes that were restored from it run on.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn forget_cache(&self) -> Result<(), StateError> {
        CACHE.iter().try_for_each(|name| {
            let path = self.directory.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(StateError::io("remove", &path)),
            }
        })
    }
}

/// A directory for a snapshot that nobody sees yet. Dropped, it is deleted.
#[derive(Debug)]
pub struct Fresh {
    token: String,
    directory: PathBuf,
    /// While somebody holds this, nobody sweeps.
    _guard: File,
}

impl Fresh {
    /// Its name, for a shim.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is told about it, when that was written.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn info(&self) -> Result<Option<SnapshotInfo>, StateError> {
        atomic::read(&self.directory.join(INFO))
    }

    /// Writes what is told about it.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn describe(&self, info: &SnapshotInfo) -> Result<(), StateError> {
        atomic::replace(&self.directory, INFO, info)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Published, it is not there any more. What can't be deleted is swept later.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A text that no other process and no other call has.
fn unique() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed))
}

/// Deletes what killed users of a snapshot were making of it.
fn sweep_parts(snapshot: &Path) {
    let half = HALF.map(|name| snapshot.join(name));
    if !half.iter().any(|path| path.exists()) {
        return;
    }
    let Ok(lock) = File::open(snapshot) else { return };
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
        half.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

impl Home {
    fn snapshots(&self) -> PathBuf {
        self.root().join("snapshots")
    }

    /// Where a shim captures its box, if that is where a snapshot is being made.
    pub fn capturing(&self, token: &str) -> Option<PathBuf> {
        let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        let directory = self.snapshots().join(format!("{FRESH}{token}"));
        (plain && directory.is_dir()).then_some(directory)
    }

    /// Makes a directory for a snapshot.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn new_snapshot(&self, id: &BoxId) -> Result<Fresh, StateError> {
        let snapshots = self.snapshots();
        let make = |path: &Path, recursive| {
            let made = fs::DirBuilder::new().recursive(recursive).mode(0o700).create(path);
            made.map_err(StateError::io("make the directory", path))
        };
        make(&snapshots, true)?;
        let guard = self.snapshots_lock()?;
        let held = rustix::fs::flock(&guard, FlockOperation::LockShared);
        held.map_err(StateError::os("lock", &snapshots))?;
        let token = id.as_str().to_owned();
        let directory = snapshots.join(format!("{FRESH}{token}"));
        make(&directory, false)?;
        Ok(Fresh { token, directory, _guard: guard })
    }

    /// Makes a snapshot visible under its name.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn publish_snapshot(&self, fresh: Fresh, name: &BoxName) -> Result<PathBuf, StateError> {
        let path = self.snapshots().join(name.as_str());
        match renameat_with(CWD, &fresh.directory, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {
                return Err(StateError::SnapshotTaken(name.to_string()));
            }
            Err(errno) => return Err(StateError::os("make", &path)(errno)),
        }
        failpoint("snapshot: published");
        let snapshots = self.snapshots();
        let synced = File::open(&snapshots).and_then(|directory| directory.sync_all());
        synced.map_err(StateError::io("write", &snapshots))?;
        Ok(path)
    }

    /// Whether a snapshot has this name.
    pub fn has_snapshot(&self, name: &BoxName) -> bool {
        self.snapshots().join(name.as_str()).exists()
    }

    /// The snapshot with this name.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot, StateError> {
        let missing = || StateError::NoSuchSnapshot(name.chars().take(140).collect());
        let parsed = name.parse::<BoxName>().map_err(|_| missing())?;
        let directory = self.snapshots().join(parsed.as_str());
        let info: Option<SnapshotInfo> = atomic::read(&directory.join(INFO))?;
        // One that was imported may have had another name.
        let info = SnapshotInfo { name: parsed, ..info.ok_or_else(missing)? };
        Ok(Snapshot { info, directory })
    }

    /// All snapshots, the oldest first; of those that can't be read, why.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn all_snapshots(&self) -> Result<(Vec<Snapshot>, Vec<StateError>), StateError> {
        let (mut whole, mut broken) = (Vec::new(), Vec::new());
        for name in self.snapshot_names()? {
            match self.snapshot(&name) {
                Ok(snapshot) => whole.push(snapshot),
                // Removed in this moment.
                Err(StateError::NoSuchSnapshot(_)) => {}
                Err(error) => broken.push(error),
            }
        }
        whole.sort_by_key(|snapshot| snapshot.info.created);
        Ok((whole, broken))
    }

    fn snapshot_names(&self) -> Result<Vec<String>, StateError> {
        let snapshots = self.snapshots();
        let entries = match fs::read_dir(&snapshots) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StateError::io("list", &snapshots))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| !name.starts_with(UNFINISHED)).collect())
    }

    /// Removes a snapshot: it vanishes at once, then its files go. Boxes that were restored from it run
    /// on, and other snapshots keep what they share with it.
    ///
    /// # Errors
    /// When there is none, or the disk says no.
    pub fn remove_snapshot(&self, name: &str) -> Result<(), StateError> {
        let missing = || StateError::NoSuchSnapshot(name.chars().take(140).collect());
        let parsed = name.parse::<BoxName>().map_err(|_| missing())?;
        let path = self.snapshots().join(parsed.as_str());
        // Who removes two of one name, one after the other, finds the first one's files gone or not.
        let gone = self.snapshots().join(format!("{UNFINISHED}gone-{parsed}-{}", unique()));
        let _ = fs::remove_dir_all(&gone);
        match fs::rename(&path, &gone) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
            result => result.map_err(StateError::io("remove", &path))?,
        }
        // Who makes its memory whole may give it another file this moment, and then finds it gone.
        let removed = fs::remove_dir_all(&gone).or_else(|_| fs::remove_dir_all(&gone));
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(StateError::io("remove", &gone)),
        }
    }

    /// Deletes what killed makers and removers of snapshots left.
    ///
    /// # Errors
    /// When the directory can't be read. What can't be deleted stays for the next time.
    pub fn sweep_snapshots(&self) -> Result<(), StateError> {
        let snapshots = self.snapshots();
        let Ok(entries) = fs::read_dir(&snapshots) else { return Ok(()) };
        let all = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let (unfinished, whole): (Vec<PathBuf>, Vec<PathBuf>) = all.partition(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(UNFINISHED)
        });
        whole.iter().for_each(|snapshot| sweep_parts(snapshot));
        if unfinished.is_empty() {
            return Ok(());
        }
        let lock = self.snapshots_lock()?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            unfinished.into_iter().for_each(|path| drop(fs::remove_dir_all(path)));
        }
        Ok(())
    }

    fn snapshots_lock(&self) -> Result<File, StateError> {
        let path = self.root().join("snapshots.lock");
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StateError::io("open", &path))
    }
}
