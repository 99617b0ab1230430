//! A home: the directory that holds boxes and their names.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use boxwood_types::{BoxId, BoxName};
use rustix::fs::FlockOperation;

use crate::events::{Action, Event, Journal};
use crate::metrics::{Tally, Totals};
use crate::{BoxDir, BoxSpec, NewBox, StateError, failpoint};

/// Directories that are being made or removed start with this; nobody takes them for boxes.
const UNFINISHED: &str = ".";
/// Those that are being removed.
const GONE: &str = ".gone-";

/// A home. Any number of processes use one at the same time.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Opens a home, making it if it is not there.
    ///
    /// # Errors
    /// When it can't be made or entered.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        for directory in [root, &root.join("boxes"), &root.join("names"), &root.join("events")] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(StateError::io("make the directory", directory))?;
        }
        let root = fs::canonicalize(root).map_err(StateError::io("enter", root))?;
        Ok(Home { root })
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What happens to its boxes.
    ///
    /// # Errors
    /// When the journal's directory can't be made.
    pub fn journal(&self) -> Result<Journal, StateError> {
        Journal::open(&self.root.join("events"))
    }

    /// Tells that something has happened to a box. It is news: when it can't be written, what has
    /// happened has happened.
    pub fn announce(&self, spec: &BoxSpec, action: &Action) {
        let _ = self.journal().and_then(|journal| journal.append(&Event::now(spec, action)));
    }

    pub(crate) fn boxes(&self) -> PathBuf {
        self.root.join("boxes")
    }

    /// Makes the directory of a new box, with its lock held and its name taken.
    ///
    /// # Errors
    /// When the name is taken, or the disk says no; then nothing stays behind.
    pub fn create(&self, spec: &BoxSpec) -> Result<NewBox, StateError> {
        let creating = self.guard(FlockOperation::LockShared)?;
        let new = NewBox::make(&self.boxes(), spec)?;
        failpoint("create: directory made");
        self.take_name(spec).inspect_err(|_| new.discard())?;
        failpoint("create: name taken");
        let new = new.publish().inspect_err(|_| {
            // The error at hand says what happened; a name without a box is free (take_name).
            let _ = fs::remove_file(self.name_path(&spec.name));
        })?;
        failpoint("create: published");
        drop(creating);
        Ok(new)
    }

    /// The box with this name, id, or beginning of an id, in Docker's order.
    ///
    /// # Errors
    /// When none or more than one is meant.
    pub fn find(&self, text: &str) -> Result<BoxDir, StateError> {
        if let Ok(id) = text.parse::<BoxId>()
            && let Some(found) = self.get(&id)?
        {
            return Ok(found);
        }
        if let Ok(name) = text.parse::<BoxName>()
            && let Ok(target) = fs::read_link(self.name_path(&name))
            && let Some(id) = target.to_str().and_then(|id| id.parse::<BoxId>().ok())
            && let Some(found) = self.get(&id)?
        {
            return Ok(found);
        }
        let mut starting: Vec<BoxId> = self.ids()?;
        starting.retain(|id| !text.is_empty() && id.as_str().starts_with(text));
        match (starting.pop(), starting.pop()) {
            (Some(id), None) => {
                self.get(&id)?.ok_or_else(|| StateError::NoSuchBox(text.to_owned()))
            }
            (Some(_), Some(_)) => Err(StateError::Ambiguous(text.to_owned())),
            _ => Err(StateError::NoSuchBox(text.chars().take(140).collect())),
        }
    }

    /// The box with this id, if there is one.
    ///
    /// # Errors
    /// When it is there and can't be opened.
    pub fn get(&self, id: &BoxId) -> Result<Option<BoxDir>, StateError> {
        BoxDir::open(&self.boxes().join(id.as_str()))
    }

    /// [`BoxDir::memory`] of a box that is yet to be made.
    pub fn memory_of(&self, id: &BoxId) -> PathBuf {
        self.boxes().join(id.as_str()).join(crate::boxdir::MEMORY)
    }

    /// The ids of all boxes, in no order.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn ids(&self) -> Result<Vec<BoxId>, StateError> {
        let boxes = self.boxes();
        let entries = fs::read_dir(&boxes).map_err(StateError::io("list", &boxes))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes a box whose lock the caller holds: it vanishes at once, then its files go.
    ///
    /// # Errors
    /// When it could not be taken away; then it is still there as it was. Files that could not be
    /// deleted after that are deleted by [`sweep`](Self::sweep).
    pub fn remove(&self, held: &BoxDir) -> Result<(), StateError> {
        let path = held.path();
        let gone = self.gone(held.id());
        let name = match held.spec() {
            Ok(spec) => Some(self.name_path(&spec.name)),
            Err(_) => self.name_of(held.id()),
        };
        // What it counted moves to the totals in the same step, for those who add up both. It is news:
        // where it can't be kept it is lost, and the box goes all the same.
        let counting = self.metrics(FlockOperation::LockExclusive);
        match fs::rename(path, &gone) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(StateError::io("remove", path)(error)),
        }
        failpoint("remove: renamed");
        if counting.is_ok() {
            let _ = Totals::of(&self.root).take(held.id(), |id| self.gone(id));
        }
        drop(counting);
        failpoint("remove: counters kept");
        if let Some(name) = name {
            self.free_name(&name, held.id())?;
        }
        failpoint("remove: name freed");
        fs::remove_dir_all(&gone).map_err(StateError::io("remove", &gone))
    }

    /// Deletes what killed creations and removals left behind. Cheap when there is nothing.
    ///
    /// # Errors
    /// When the directory can't be read. What can't be deleted stays for the next time.
    pub fn sweep(&self) -> Result<(), StateError> {
        let boxes = self.boxes();
        let entries = fs::read_dir(&boxes).map_err(StateError::io("list", &boxes))?;
        let unfinished: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(UNFINISHED) && path.is_dir()
            })
            .collect();
        if unfinished.is_empty() {
            return Ok(());
        }
        // Whoever creates a box holds this shared, so with it exclusive every unfinished directory
        // belongs to a dead process or to a removal, which does not mind help.
        let Some(_alone) = self.try_guard_exclusive()? else { return Ok(()) };
        for path in unfinished {
            // One that was being made when it was seen may be a box by now, with that name.
            if !path.exists() {
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let of = |prefix| name.strip_prefix(prefix)?.parse::<BoxId>().ok();
            if let Some(id) = of(GONE)
                && let Ok(_counting) = self.metrics(FlockOperation::LockExclusive)
            {
                let _ = Totals::of(&self.root).take(&id, |id| self.gone(id));
            }
            // Its name leads nowhere, unless somebody has taken it since.
            if let Some(id) = of(GONE).or_else(|| of(NewBox::PREFIX))
                && let Some(name) = self.name_of(&id)
            {
                let _ = self.free_name(&name, &id);
            }
            let _ = fs::remove_dir_all(path);
        }
        Ok(())
    }

    /// What was counted in this home, with the boxes that are gone.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn tally(&self) -> Result<Tally, StateError> {
        // A box that is being removed is counted in one place or the other.
        let _no_removals = self.metrics(FlockOperation::LockShared)?;
        let boxes = self.boxes();
        let entries = fs::read_dir(&boxes).map_err(StateError::io("list", &boxes))?;
        let counted = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            (name.starts_with(GONE) || name.parse::<BoxId>().is_ok()).then_some(path)
        });
        Ok(Totals::of(&self.root).with(counted))
    }

    fn metrics(&self, how: FlockOperation) -> Result<File, StateError> {
        let (path, lock) = self.lock_file("metrics.lock")?;
        rustix::fs::flock(&lock, how).map_err(StateError::os("lock", &path))?;
        Ok(lock)
    }

    /// Where the directory of a removed box is, until its files are deleted.
    fn gone(&self, id: &BoxId) -> PathBuf {
        self.boxes().join(format!("{GONE}{id}"))
    }

    /// Gives a box another name. Whoever reads its spec meanwhile sees the old or the new one.
    ///
    /// # Errors
    /// When the name is taken, or the disk says no; then it keeps its name.
    pub fn rename(&self, dir: &BoxDir, name: &BoxName) -> Result<(), StateError> {
        let _one_at_a_time = self.naming()?;
        let old = dir.spec()?;
        if old.name == *name {
            return Err(StateError::SameName(name.clone()));
        }
        let new = BoxSpec { name: name.clone(), ..old.clone() };
        self.claim_name(&new)?;
        dir.write_spec(&new).inspect_err(|_| {
            // The error at hand says what happened; both names would lead to the box.
            let _ = fs::remove_file(self.name_path(name));
        })?;
        let path = self.name_path(&old.name);
        fs::remove_file(&path).map_err(StateError::io("free the name", &path))
    }

    /// Changes the spec of a box, but for its name; nobody renames the box meanwhile.
    ///
    /// # Errors
    /// When it can't be read or written; then the old one stands.
    pub fn change_spec(
        &self,
        dir: &BoxDir,
        change: impl FnOnce(&mut BoxSpec),
    ) -> Result<BoxSpec, StateError> {
        let _one_at_a_time = self.naming()?;
        let mut spec = dir.spec()?;
        change(&mut spec);
        dir.write_spec(&spec)?;
        Ok(spec)
    }

    /// Takes a name from a box that is gone, if it still leads there.
    fn free_name(&self, name: &Path, id: &BoxId) -> Result<(), StateError> {
        // Whoever wants the name may have it by now: looking and removing must be one step.
        let _one_at_a_time = self.naming()?;
        if fs::read_link(name).is_ok_and(|target| target.as_os_str() == id.as_str()) {
            fs::remove_file(name).map_err(StateError::io("remove the name", name))?;
        }
        Ok(())
    }

    /// The name that leads to a box which can't say it itself.
    fn name_of(&self, id: &BoxId) -> Option<PathBuf> {
        let names = fs::read_dir(self.root.join("names")).ok()?;
        let mut paths = names.filter_map(|name| Some(name.ok()?.path()));
        paths.find(|path| fs::read_link(path).is_ok_and(|to| to.as_os_str() == id.as_str()))
    }

    fn name_path(&self, name: &BoxName) -> PathBuf {
        self.root.join("names").join(name.as_str())
    }

    /// A name is a symbolic link to an id; it is free when its box is gone. One at a time: the check
    /// and the replacement of a stale link must be one step.
    fn take_name(&self, spec: &BoxSpec) -> Result<(), StateError> {
        let _one_at_a_time = self.naming()?;
        self.claim_name(spec)
    }

    fn naming(&self) -> Result<File, StateError> {
        let (path, lock) = self.lock_file("names.lock")?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(StateError::os("lock", &path))?;
        Ok(lock)
    }

    fn claim_name(&self, spec: &BoxSpec) -> Result<(), StateError> {
        let path = self.name_path(&spec.name);
        if let Ok(target) = fs::read_link(&path) {
            let holder = target.to_string_lossy();
            let exists = |prefix: &str| self.boxes().join(format!("{prefix}{holder}")).exists();
            // In this order: a box that is being made goes from the first to the second, maybe just now.
            if exists(NewBox::PREFIX) || exists("") {
                let holder = holder.chars().take(12).collect();
                return Err(StateError::NameTaken { name: spec.name.clone(), holder });
            }
            fs::remove_file(&path).map_err(StateError::io("free the name", &path))?;
        }
        symlink(spec.id.as_str(), &path).map_err(StateError::io("take the name", &path))
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File), StateError> {
        let path = self.root.join(name);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(StateError::io("open", &path))?;
        Ok((path, file))
    }

    fn guard(&self, how: FlockOperation) -> Result<File, StateError> {
        let (path, file) = self.lock_file("boxes.lock")?;
        rustix::fs::flock(&file, how).map_err(StateError::os("lock", &path))?;
        Ok(file)
    }

    /// Lets one at a time correct what lost boxes left. The lock of a box can't do that: who only
    /// looks at it holds it for a moment, too.
    ///
    /// # Errors
    /// When the lock can't be taken.
    pub fn recovering(&self) -> Result<File, StateError> {
        let (path, file) = self.lock_file("recovery.lock")?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(StateError::os("lock", &path))?;
        Ok(file)
    }

    /// Lets one at a time, of all processes, make something by a key whose digest begins with this byte. Others
    /// may have to wait for it, too. Blocks.
    ///
    /// # Errors
    /// When the lock can't be taken.
    pub fn creating(&self, key: u8) -> Result<File, StateError> {
        let keys = self.root.join("keys");
        fs::create_dir_all(&keys).map_err(StateError::io("make", &keys))?;
        let (path, file) = self.lock_file(&format!("keys/{key:02x}"))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(StateError::os("lock", &path))?;
        Ok(file)
    }

    fn try_guard_exclusive(&self) -> Result<Option<File>, StateError> {
        let (path, file) = self.lock_file("boxes.lock")?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(StateError::os("lock", &path)(errno)),
        }
    }
}

#[cfg(test)]
mod tests;
