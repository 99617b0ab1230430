//! Where set-up files live, and how they get there: written under a temporary name, made
//! durable, renamed; one writer at a time. Called by `assets`, `kernel`, `initramfs` and `disk`.
//!
//! ```text
//! <store>/kernel/<release>-<hash>/{vmlinux,modules/NNN-name.ko}    kernel/*.json: which is current
//! <store>/initramfs/<hash>.cpio                                    initramfs/*.json: for which guest
//! <store>/disk/blank-v1.ext4
//! <store>/setup.lock   the writer's lock      <store>/setup.tmp/   what it has not finished
//! ```

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{Access, FlockOperation, access, flock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::command::run;
use crate::error::Error;

/// The stores to look in: the user's own, which is written to, then others, which are only read.
#[derive(Clone, Debug)]
pub struct Stores {
    own: PathBuf,
    shared: Vec<PathBuf>,
}

impl Stores {
    /// This store alone.
    pub fn new(own: impl Into<PathBuf>) -> Self {
        Stores { own: own.into(), shared: Vec::new() }
    }

    /// Looks in this one too, after the others. It may be read-only for this user.
    #[must_use]
    pub fn with_shared(mut self, store: impl Into<PathBuf>) -> Self {
        self.shared.push(store.into());
        self
    }

    /// The store that is written to.
    pub fn own(&self) -> &Path {
        &self.own
    }

    /// What `look` finds in the first store that has it. A shared store may be another's, who has
    /// closed it: what this user may not read there is not there for this user.
    pub(crate) fn first<T>(
        &self,
        look: impl Fn(&Path) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        if let Some(found) = look(&self.own)? {
            return Ok(Some(found));
        }
        for store in &self.shared {
            match look(store) {
                Ok(None) => {}
                Err(error) if error.is_denied() => {}
                result => return result,
            }
        }
        Ok(None)
    }
}

/// What tells that a file is still the one that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileStamp {
    size: u64,
    inode: u64,
    mtime: i64,
    mtime_ns: i64,
}

impl FileStamp {
    /// The file's, or `None` where there is no such file.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, Error> {
        match fs::metadata(path) {
            Ok(data) if data.is_file() => Ok(Some(Self::from_metadata(&data))),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(Error::Stat { path: path.to_owned(), source }),
        }
    }

    pub(crate) fn from_metadata(data: &fs::Metadata) -> Self {
        FileStamp {
            size: data.size(),
            inode: data.ino(),
            mtime: data.mtime(),
            mtime_ns: data.mtime_nsec(),
        }
    }

    /// Whether the file is there and is this one. A file that this user can't read is not.
    pub(crate) fn holds_for(&self, path: &Path) -> bool {
        matches!(Self::of(path), Ok(Some(stamp)) if stamp == *self) && may_read(path)
    }
}

/// Whether this user may read what is there.
pub(crate) fn may_read(path: &Path) -> bool {
    access(path, Access::READ_OK).is_ok()
}

/// How long something stays after nothing refers to it any more.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// Records are a few hundred bytes.
const RECORD_LIMIT: u64 = 64 << 10;

/// A record of ours, or `None` where there is none of the form we write now.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = read_optional(path, RECORD_LIMIT)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// A whole file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len().min(limit);
    let mut bytes = Vec::with_capacity(size as usize + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// The same, or `None` where there is no such file.
pub(crate) fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    match read_bounded(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Read { source, .. }) if is_absent(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// SHA-256 over the parts, each preceded by its length, in hexadecimal.
pub(crate) fn hash_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// SHA-256 of the bytes, in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one that may write to a store. The lock ends with it, also when the process is killed;
/// what it left unfinished is then removed by the next writer.
#[derive(Debug)]
pub(crate) struct Writer {
    root: PathBuf,
    temp: PathBuf,
    lock: File,
}

impl Writer {
    /// Makes the store where it is missing and waits for its lock. `waiting` is called once if
    /// another process has it. The wait is as long as that writer lives, and each of its steps
    /// has a deadline.
    pub(crate) fn open(root: &Path, waiting: impl FnOnce()) -> Result<Self, Error> {
        make_directory(root)?;
        let path = root.join("setup.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| Error::Write { path: path.clone(), source })?;
        take_lock(&lock, waiting).map_err(|source| Error::Lock { path, source })?;

        let temp = root.join("setup.tmp");
        remove_tree(&temp)?;
        make_directory(&temp)?;
        Ok(Writer { root: root.to_owned(), temp, lock })
    }

    /// The store.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Runs a helper that writes to the store. The store stays locked until the last process of
    /// the helper is gone, also when this one is killed before.
    pub(crate) fn run(&self, command: &mut Command, limit: Duration) -> Result<String, Error> {
        run(command, limit, Some(&self.lock)).map(|(stdout, _)| stdout)
    }

    /// A path for something unfinished, on the same file system as the store.
    pub(crate) fn temporary(&self, name: &str) -> PathBuf {
        self.temp.join(name)
    }

    /// A new directory there.
    pub(crate) fn temporary_directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.temporary(name);
        make_directory(&path)?;
        Ok(path)
    }

    /// Puts a finished, synced file or directory in its place below the store, instead of what
    /// may be there.
    pub(crate) fn publish(&self, finished: &Path, place: &Path) -> Result<(), Error> {
        let place = self.root.join(place);
        let failed = |source| Error::Write { path: place.clone(), source };
        let parent = place.parent().unwrap_or(&self.root);
        make_directory(parent)?;
        if place.is_dir() {
            // rename(2) replaces a file but no directory with something in it.
            fs::rename(&place, self.temporary("replaced")).map_err(failed)?;
        }
        fs::rename(finished, &place).map_err(failed)?;
        sync(parent)
    }

    /// Writes a file of the store in one step that a reader sees whole or not at all.
    pub(crate) fn write(&self, place: &Path, bytes: &[u8]) -> Result<(), Error> {
        let unfinished = self.temporary("file");
        write_synced(&unfinished, bytes)?;
        self.publish(&unfinished, place)
    }

    /// The same with a record.
    pub(crate) fn write_record(&self, place: &Path, record: &impl Serialize) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|error| Error::Write { path: self.root.join(place), source: error.into() })?;
        self.write(place, &bytes)
    }

    /// Removes what lies in a directory of the store beside its records and is named by none of
    /// them. It must be a day old: somebody may have looked it up and be about to open it.
    pub(crate) fn sweep<T: DeserializeOwned>(
        &self,
        name: &str,
        named: impl Fn(T) -> String,
    ) -> Result<(), Error> {
        let directory = self.root.join(name);
        let failed = |source| Error::Read { path: directory.clone(), source };
        let (mut kept, mut found) = (HashSet::new(), Vec::new());
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                kept.extend(read_record::<T>(&path)?.map(|record| directory.join(named(record))));
            } else {
                found.push(path);
            }
        }
        for (index, path) in found.iter().filter(|path| !kept.contains(*path)).enumerate() {
            let age =
                fs::metadata(path).and_then(|data| data.modified()).map_err(failed)?.elapsed();
            if age.is_ok_and(|age| age > GRACE) {
                // In one step, so that a reader sees it whole or not at all.
                let aside = self.temporary(&format!("swept-{name}-{index}"));
                fs::rename(path, aside).map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What stays is removed by the next writer.
        let _ = fs::remove_dir_all(&self.temp);
    }
}

fn take_lock(lock: &File, waiting: impl FnOnce()) -> io::Result<()> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => waiting(),
        Err(error) => return Err(error.into()),
    }
    loop {
        match flock(lock, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Makes a directory with its parents, durably enough: what is put in it is synced with it.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Removes a file or directory with all in it, if it is there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Write { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Writes a new file and makes it durable.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Makes a file or directory durable.
pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_shared_store_that_may_not_be_read_has_nothing() {
        let look = |store: &Path| match store.to_str() {
            Some("closed") => {
                let source = io::ErrorKind::PermissionDenied.into();
                Err(Error::Read { path: store.to_owned(), source })
            }
            Some("full") => Ok(Some("found")),
            _ => Ok(None),
        };
        let stores = Stores::new("empty").with_shared("closed");
        assert_eq!(stores.first(look).unwrap(), None);
        assert_eq!(stores.with_shared("full").first(look).unwrap(), Some("found"));
        // One's own store is another matter: what is wrong there is told.
        let own = Stores::new("closed").with_shared("full");
        assert!(own.first(look).unwrap_err().is_denied());
    }

    #[test]
    fn a_second_writer_waits_and_is_told_so() {
        let store = tempfile::tempdir().unwrap();
        let first = Writer::open(store.path(), || panic!("nobody has the lock")).unwrap();
        let (told, hears) = mpsc::channel();
        let path = store.path().to_owned();
        let second =
            thread::spawn(move || Writer::open(&path, || told.send(()).unwrap()).map(drop));
        hears.recv().unwrap();
        assert!(!second.is_finished());
        first.write(Path::new("a/b"), b"done").unwrap();
        drop(first);
        second.join().unwrap().unwrap();
        assert_eq!(fs::read(store.path().join("a/b")).unwrap(), b"done");
    }

    #[test]
    fn what_a_killed_writer_left_is_gone_after_the_next() {
        let store = tempfile::tempdir().unwrap();
        let left = store.path().join("setup.tmp/kernel/modules");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("half"), b"x").unwrap();
        let writer = Writer::open(store.path(), || ()).unwrap();
        assert!(!left.exists());
        fs::write(writer.temporary("x"), b"x").unwrap();
        drop(writer);
        assert!(!store.path().join("setup.tmp").exists());
    }

    #[test]
    fn a_directory_is_replaced_whole() {
        let store = tempfile::tempdir().unwrap();
        let writer = Writer::open(store.path(), || ()).unwrap();
        for name in ["old", "new"] {
            let unfinished = writer.temporary_directory("d").unwrap();
            write_synced(&unfinished.join(name), b"x").unwrap();
            writer.publish(&unfinished, Path::new("kernel/x")).unwrap();
        }
        assert!(store.path().join("kernel/x/new").exists());
        assert!(!store.path().join("kernel/x/old").exists());
    }

    #[test]
    fn a_file_above_its_limit_is_not_read() {
        let store = tempfile::tempdir().unwrap();
        let path = store.path().join("f");
        fs::write(&path, [0; 11]).unwrap();
        assert!(matches!(read_bounded(&path, 10), Err(Error::TooLarge { .. })));
        assert_eq!(read_bounded(&path, 11).unwrap().len(), 11);
    }

    #[test]
    fn a_stamp_tells_a_changed_file() {
        let store = tempfile::tempdir().unwrap();
        let path = store.path().join("f");
        fs::write(&path, b"one").unwrap();
        let stamp = FileStamp::of(&path).unwrap().unwrap();
        assert!(stamp.holds_for(&path));
        fs::write(store.path().join("g"), b"two").unwrap();
        fs::rename(store.path().join("g"), &path).unwrap();
        assert!(!stamp.holds_for(&path));
        assert!(!stamp.holds_for(&store.path().join("absent")));
    }
}
