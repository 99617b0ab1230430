//! The directory of one box.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use boxwood_types::{BoxId, BoxState};
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::disk::{self, DiskFiles};
use crate::metrics::{Counter, Counters, OF_BOX};
use crate::segments::Segments;
use crate::{AfterExit, BoxSpec, Client, ExitRecord, Health, Record, StateError, atomic, room};

const SPEC: &str = "spec.json";
const RECORD: &str = "record.json";
const LOG: &str = "log";
const HEALTH: &str = "health.json";
const LOCK: &str = "lock";
pub(crate) const MEMORY: &str = "memory";
const SOCKET: &str = "control.sock";
/// Empty; there for a box that is gone after a crash of the host, whatever its other files are then.
const FLEETING: &str = "fleeting";

/// A box's directory, opened: its paths stay the box's own even when it is removed meanwhile.
#[derive(Debug)]
pub struct BoxDir {
    id: BoxId,
    path: PathBuf,
    handle: OwnedFd,
}

/// A box that nobody sees yet.
#[derive(Debug)]
pub struct NewBox {
    id: BoxId,
    unpublished: PathBuf,
    published: PathBuf,
    owner: Owner,
}

/// What makes its holder the owner of a box: handed from the box's creator to its shim.
#[derive(Debug)]
pub struct Owner {
    /// The lock, held.
    pub lock: File,
    /// The control socket, listening: who finds the box can ask its owner, also one that is not
    /// there yet.
    pub listener: UnixListener,
}

impl BoxDir {
    /// Opens a box's directory; `None` when it is not there.
    ///
    /// # Errors
    /// When it is there and can't be opened.
    pub fn open(path: &Path) -> Result<Option<BoxDir>, StateError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Ok(id) = name.parse::<BoxId>() else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(BoxDir { id, path: path.to_owned(), handle })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(StateError::os("open", path)(errno)),
        }
    }

    /// The box's id.
    pub fn id(&self) -> &BoxId {
        &self.id
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the box was asked to be.
    ///
    /// # Errors
    /// When the spec can't be read or is damaged.
    pub fn spec(&self) -> Result<BoxSpec, StateError> {
        let path = self.file(SPEC);
        atomic::read(&path)?.ok_or_else(|| self.without(path))
    }

    /// The same, unless it is what was read last.
    ///
    /// # Errors
    /// When the spec can't be read or is damaged.
    pub fn changed_spec(&self, known: &mut atomic::Known) -> Result<Option<BoxSpec>, StateError> {
        known.read(&self.file(SPEC))
    }

    /// Writes what the box is to be at its next start. Only the one who holds the lock does.
    ///
    /// # Errors
    /// When it could not be written; the old one stands.
    pub fn write_spec(&self, spec: &BoxSpec) -> Result<(), StateError> {
        match self.is_fleeting() {
            true => atomic::replace_unsynced(&self.path, SPEC, spec),
            false => atomic::replace(&self.path, SPEC, spec),
        }
    }

    /// Whether it is removed when its owner is lost, so that nothing of it has to survive a crash of the host:
    /// its files are not synced, and may be damaged then.
    pub fn is_fleeting(&self) -> bool {
        self.file(FLEETING).exists()
    }

    /// The latest transition, whether or not it is still true.
    ///
    /// # Errors
    /// When the record can't be read or is damaged.
    pub fn record(&self) -> Result<Record, StateError> {
        let path = self.file(RECORD);
        atomic::read(&path)?.ok_or_else(|| self.without(path))
    }

    /// Writes the latest transition. Only the one who holds the lock does.
    ///
    /// # Errors
    /// When it could not be written; the old one stands.
    pub fn write_record(&self, record: &Record) -> Result<(), StateError> {
        if self.is_fleeting() {
            return atomic::replace_unsynced(&self.path, RECORD, record);
        }
        // After a crash of the host one live state says as much as the other.
        match record.state.is_live() && record.state != BoxState::Starting {
            true => atomic::replace_in_time(&self.path, RECORD, record),
            false => atomic::replace(&self.path, RECORD, record),
        }
    }

    /// Takes room for [`write_end`](Self::write_end). Only the one who holds the lock does.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_room(&self) -> Result<(), StateError> {
        room::take(&self.path).map_err(StateError::io("keep room for its end in", &self.path))
    }

    /// Writes the transition that is the last of a run, also to a disk that is full by now: then without
    /// the message, should that be longer than the room that was taken.
    ///
    /// # Errors
    /// When it could not be written; the old one stands.
    pub fn write_end(&self, record: &Record) -> Result<(), StateError> {
        match self.write_in_room(record) {
            Ok(true) => Ok(()),
            Ok(false) => self.write_record(record),
            Err(error) if error.is_for_want_of_room() => {
                let exit = record.exit.clone().map(|exit| ExitRecord { message: None, ..exit });
                self.write_in_room(&Record { exit, ..record.clone() }).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// `false` when no room was taken.
    fn write_in_room(&self, record: &Record) -> Result<bool, StateError> {
        let path = self.file(RECORD);
        let bytes = serde_json::to_vec(record)
            .map_err(|source| StateError::Damaged { path: path.clone(), source })?;
        room::replace(&self.path, RECORD, &bytes).map_err(StateError::io("replace", &path))
    }

    /// What came of its health checks; `None` when there was nothing to tell yet.
    ///
    /// # Errors
    /// When it can't be read or is damaged.
    pub fn health(&self) -> Result<Option<Health>, StateError> {
        atomic::read(&self.file(HEALTH))
    }

    /// Writes what came of its health checks. It is for people, and need not survive a crash of the
    /// host: readers see the old or the new. Only the one who holds the lock does.
    ///
    /// # Errors
    /// When it could not be written; the old one stands.
    pub fn write_health(&self, health: &Health) -> Result<(), StateError> {
        atomic::replace_unsynced(&self.path, HEALTH, health)
    }

    /// A new run has no results yet.
    ///
    /// # Errors
    /// When those of the last can't be removed.
    pub fn forget_health(&self) -> Result<(), StateError> {
        let path = self.file(HEALTH);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StateError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// What is counted about it. Only the one who holds the lock counts.
    pub fn counters(&self) -> Counters {
        Counters::open(&self.file(OF_BOX))
    }

    /// Takes the box's lock if nobody holds it, not even to look.
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub fn try_lock(&self) -> Result<Option<File>, StateError> {
        self.flock(FlockOperation::NonBlockingLockExclusive)
    }

    /// `None` when somebody owns the box: its shim, or who creates or removes it. While the file is
    /// held, nobody can become its owner. Any number may look at the same time.
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub fn look_unowned(&self) -> Result<Option<File>, StateError> {
        self.flock(FlockOperation::NonBlockingLockShared)
    }

    /// Waits until whoever holds the lock has gone, and takes it. Blocks: call it where that is
    /// allowed.
    ///
    /// # Errors
    /// When the lock file can't be opened or locked.
    pub fn lock(&self) -> Result<File, StateError> {
        self.flock(FlockOperation::LockExclusive)?.ok_or_else(|| self.gone())
    }

    /// `None` when somebody else's lock is in the way of one that does not wait.
    fn flock(&self, how: FlockOperation) -> Result<Option<File>, StateError> {
        let path = self.file(LOCK);
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.without(path)),
            Err(error) => return Err(StateError::io("open", &path)(error)),
        };
        match rustix::fs::flock(&file, how) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(StateError::os("lock", &path)(errno)),
        }
    }

    /// The box's own disk.
    pub fn disk(&self) -> PathBuf {
        self.file("disk")
    }

    /// The files of the box's own disk.
    ///
    /// # Errors
    /// When a switch of them was cut off and can't be completed.
    pub fn disk_files(&self) -> Result<DiskFiles, StateError> {
        disk::files(&self.path).map_err(StateError::io("read the disk in", &self.path))
    }

    /// Whether the box has a disk: one that is being made has none until that is whole.
    ///
    /// # Errors
    /// When a switch of its files was cut off and can't be completed.
    pub fn has_disk(&self) -> Result<bool, StateError> {
        Ok(self.disk_files()?.top.exists())
    }

    /// Whether nobody is about to give the box another disk, or was when he was killed. Cheap.
    pub fn is_settled(&self) -> bool {
        disk::is_settled(&self.path)
    }

    /// Completes what became of a disk whose owner was killed, and takes away the rest. Only the one who
    /// keeps others from becoming the owner does.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn settle_disk(&self) -> Result<(), StateError> {
        disk::settle(&self.path).map_err(StateError::io("tidy up the disk in", &self.path))
    }

    /// Makes an empty file that is to be the disk, or an overlay of it.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn new_overlay(&self) -> Result<File, StateError> {
        disk::new_overlay(&self.path).map_err(StateError::io("make a disk in", &self.path))
    }

    /// Makes what was written to [`new_overlay`](Self::new_overlay) the disk of a new box.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn take_new_disk(&self) -> std::io::Result<()> {
        disk::take_new(&self.path)
    }

    /// Makes the disk a layer and the new overlay the disk, while nothing is written to either.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn push_overlay(&self) -> std::io::Result<()> {
        disk::push(&self.path)
    }

    /// Takes [`push_overlay`](Self::push_overlay) back.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn pop_overlay(&self) -> std::io::Result<()> {
        disk::pop(&self.path)
    }

    /// Where a new box gets a captured memory that it goes on from, until it does.
    pub fn memory(&self) -> PathBuf {
        self.file(MEMORY)
    }

    /// Where a new box gets the layers of its disk; the directory is made.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn begin_layers(&self) -> Result<PathBuf, StateError> {
        disk::begin_layers(&self.path).map_err(StateError::io("make layers in", &self.path))
    }

    /// With all of the layers there and the overlay of them made, they are the disk of the new box.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn take_layers(&self) -> std::io::Result<()> {
        disk::take_layers(&self.path)
    }

    /// The directory of the log of main's output.
    pub fn log(&self) -> PathBuf {
        self.file(LOG)
    }

    /// The piece of the log that is written to.
    pub fn log_file(&self) -> PathBuf {
        let segments = Segments::of(&self.log());
        segments.path(segments.newest().unwrap_or(1))
    }

    /// What the VM's console said, kept when a box fails.
    pub fn console(&self) -> PathBuf {
        self.file("console")
    }

    /// The control socket, by a path that fits into a socket address whatever the home is called
    /// (unix(7): 107 bytes), and that works in this process only.
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.handle.as_raw_fd()))
    }

    /// Makes the control socket anew. Only the one who holds the lock does.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn listen(&self) -> Result<UnixListener, StateError> {
        let path = self.file(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StateError::io("replace", &path)(error));
            }
            _ => {}
        }
        UnixListener::bind(self.socket()).map_err(StateError::io("make the control socket", &path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What it means that a file is not there: the box has gone, or it has lost the file.
    fn without(&self, path: PathBuf) -> StateError {
        if self.path.exists() { StateError::Missing { path } } else { self.gone() }
    }

    fn gone(&self) -> StateError {
        StateError::NoSuchBox(self.id.short().to_owned())
    }
}

impl NewBox {
    /// What a directory's name starts with until it is published.
    pub(crate) const PREFIX: &str = ".new-";

    pub(crate) fn make(boxes: &Path, spec: &BoxSpec) -> Result<NewBox, StateError> {
        let unpublished = boxes.join(format!("{}{}", Self::PREFIX, spec.id));
        let make = fs::DirBuilder::new().mode(0o700).create(&unpublished);
        make.map_err(StateError::io("make", &unpublished))?;
        let result = Self::fill(&unpublished, spec);
        if result.is_err() {
            // The error at hand says what happened; the sweep takes what is left.
            let _ = fs::remove_dir_all(&unpublished);
        }
        let published = boxes.join(spec.id.as_str());
        Ok(NewBox { id: spec.id.clone(), unpublished, published, owner: result? })
    }

    fn fill(directory: &Path, spec: &BoxSpec) -> Result<Owner, StateError> {
        let path = directory.join(LOCK);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let lock = options.open(&path).map_err(StateError::io("make", &path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(StateError::os("lock", &path))?;
        let log = directory.join(LOG);
        Segments::of(&log).make().map_err(StateError::io("make", &log))?;
        // One that waits for its first start outlives whoever made it.
        let fleeting = spec.after_exit == AfterExit::Remove && spec.client != Client::Later;
        if fleeting {
            let path = directory.join(FLEETING);
            File::create_new(&path).map_err(StateError::io("make", &path))?;
            atomic::replace_unsynced(directory, SPEC, spec)?;
            atomic::replace_unsynced(directory, RECORD, &Record::created())?;
        } else {
            atomic::replace(directory, SPEC, spec)?;
            atomic::replace(directory, RECORD, &Record::created())?;
        }
        Counters::open(&directory.join(OF_BOX)).add(Counter::BoxesRegistered, 1);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let handle = rustix::fs::open(directory, flags, Mode::empty())
            .map_err(StateError::os("open", directory))?;
        let listener =
            BoxDir { id: spec.id.clone(), path: directory.to_owned(), handle }.listen()?;
        Ok(Owner { lock, listener })
    }

    /// Takes the unfinished directory away again, after an error that says what happened. What can't
    /// be deleted is swept later.
    pub(crate) fn discard(&self) {
        let _ = fs::remove_dir_all(&self.unpublished);
    }

    /// Makes the box visible and hands over its directory and its lock.
    pub(crate) fn publish(self) -> Result<NewBox, StateError> {
        fs::rename(&self.unpublished, &self.published).map_err(|error| {
            let _ = fs::remove_dir_all(&self.unpublished);
            StateError::io("make", &self.published)(error)
        })?;
        Ok(self)
    }

    /// The box's directory, and what makes its holder the owner.
    ///
    /// # Errors
    /// When the directory can't be opened.
    pub fn into_parts(self) -> Result<(BoxDir, Owner), StateError> {
        let missing = || StateError::NoSuchBox(self.id.short().to_owned());
        let directory = BoxDir::open(&self.published)?.ok_or_else(missing)?;
        Ok((directory, self.owner))
    }
}
