//! The pool of a home: VMs that were restored ahead and wait for a box. Used by the runtime, which keeps as
//! many as are wanted, and by the shims that own them.
//!
//! ```text
//! pool.json       what is wanted
//! pool.failure.1cpu-512mib
//!                 why it could not be filled with VMs of that shape when that was last tried, if so
//! pool.lock       held while that or the members are changed
//! pool/ID/        a member; the box that gets it has the same directory's disk, and another id
//!   member.json   what it was restored from
//!   lock          held by its shim for life
//!   ready         there when it can be claimed
//!   claim         locked by who claims it, so that nobody else does
//!   warm.sock     its shim, listening
//!   disk          the disk it was restored with
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use boxwood_types::{BoxId, Shape};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::{Home, ImageRef, StateError, TemplateRef, atomic, failpoint};

const CONFIG: &str = "pool.json";
const MEMBER: &str = "member.json";
const FAILURE: &str = "pool.failure";
/// The longest reason, in characters.
const REASON: usize = 400;

/// What is wanted of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// One for each shape.
    pub shapes: Vec<PoolShape>,
}

/// How many VMs of a shape are to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolShape {
    /// vCPUs and memory.
    pub shape: Shape,
    /// How many.
    pub count: u32,
    /// The image they are ready for: the one that was asked for last.
    pub image: String,
}

/// Why a pool could not be filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFailure {
    /// When that was tried.
    pub time: Moment,
    /// In one line.
    pub message: String,
}

/// What a member was restored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSpec {
    /// Its id.
    pub id: BoxId,
    /// When it was made.
    pub created: Moment,
    /// vCPUs and memory.
    pub shape: Shape,
    /// Its image.
    pub image: ImageRef,
    /// Its template, which has the image mounted.
    pub template: TemplateRef,
}

/// A member of a pool.
#[derive(Debug)]
pub struct Member {
    /// What it was restored from.
    pub spec: MemberSpec,
    path: PathBuf,
    handle: OwnedFd,
}

/// What is said to a member's shim; it answers with one byte when it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRequest {
    /// Say when it can be claimed.
    Wait,
    /// Be this box's shim. Its descriptors come along: connection of the starter, lock, pipe of the
    /// starter's life, control socket, and where complaints go. It is that once another byte has come after the
    /// answer.
    Claim(BoxId),
    /// End.
    Dismiss,
}

impl Member {
    fn open(path: &Path) -> Result<Option<Member>, StateError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let handle = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(StateError::os("open", path)(errno)),
        };
        let spec = atomic::read(&path.join(MEMBER))?;
        Ok(spec.map(|spec| Member { spec, path: path.to_owned(), handle }))
    }

    /// Its disk.
    pub fn disk(&self) -> PathBuf {
        self.path.join("disk")
    }

    /// Where its shim says what goes wrong.
    pub fn complaints(&self) -> PathBuf {
        self.path.join("shim.log")
    }

    /// Its shim's socket, by a path that works in this process only; see [`BoxDir::socket`](crate::BoxDir).
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/warm.sock", self.handle.as_raw_fd()))
    }

    /// Whether its shim lives.
    pub fn is_alive(&self) -> bool {
        let lock = File::open(self.path.join("lock"));
        lock.is_ok_and(|lock| {
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
        })
    }

    /// Whether it can be claimed.
    pub fn is_ready(&self) -> bool {
        self.path.join("ready").exists()
    }

    /// Says that it can be claimed. Its shim does.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn make_ready(&self) -> Result<(), StateError> {
        let path = self.path.join("ready");
        File::create(&path).map(drop).map_err(StateError::io("make", &path))
    }

    /// The right to claim it, as long as this is held; `None` when another has it.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn try_claim(&self) -> Result<Option<File>, StateError> {
        let path = self.path.join("claim");
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StateError::io("open", &path))?,
        };
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(locked.is_ok().then_some(file))
    }

    /// Waits until its shim has gone. Blocks.
    pub fn wait_for_end(&self) {
        if let Ok(lock) = File::open(self.path.join("lock")) {
            let _ = rustix::fs::flock(&lock, FlockOperation::LockShared);
        }
    }

    /// Deletes what is left of it.
    pub fn remove(&self) {
        // What can't be deleted is found by the next who looks.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The file with the reason for a shape.
fn failure_of(shape: Shape) -> String {
    format!("{FAILURE}.{shape}")
}

impl Home {
    fn pool(&self) -> PathBuf {
        self.root().join("pool")
    }

    /// What is wanted.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn pool_config(&self) -> Result<PoolConfig, StateError> {
        Ok(atomic::read(&self.root().join(CONFIG))?.unwrap_or_default())
    }

    /// Writes what is wanted, with [`pool_lock`](Self::pool_lock) held.
    ///
    /// # Errors
    /// When it could not be written; the old stands.
    pub fn write_pool_config(&self, config: &PoolConfig) -> Result<(), StateError> {
        if config.shapes.is_empty() {
            let path = self.root().join(CONFIG);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StateError::io("remove", &path)(error));
                }
                _ => {}
            }
        } else {
            atomic::replace(self.root(), CONFIG, config)?;
        }
        // Afterwards: who says that it failed looks first whether it is wanted.
        self.forget_unwanted_failures(config);
        Ok(())
    }

    fn forget_unwanted_failures(&self, config: &PoolConfig) {
        let wanted: Vec<String> = config.shapes.iter().map(|one| failure_of(one.shape)).collect();
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| name.starts_with(FAILURE) && !wanted.contains(name)) {
            // What can't be removed is told of nobody: it is not wanted.
            let _ = fs::remove_file(self.root().join(name));
        }
    }

    /// Whether anything is wanted, or there. Cheap.
    pub fn has_pool(&self) -> bool {
        self.root().join(CONFIG).exists() || self.pool().exists()
    }

    /// Why the pool could not be filled with VMs of a shape when that was last tried; nothing when it could, or
    /// when a crash of the host has left half of it: it is for people, and the VMs that wait are counted
    /// without it.
    pub fn pool_failure(&self, shape: Shape) -> Option<PoolFailure> {
        atomic::read(&self.root().join(failure_of(shape))).ok().flatten()
    }

    /// Says why the pool could not be filled with VMs of a shape: who fills it has nobody who listens.
    pub fn note_pool_failure(&self, shape: Shape, why: &str) {
        let wanted = |config: PoolConfig| config.shapes.iter().any(|one| one.shape == shape);
        if !self.pool_config().is_ok_and(wanted) {
            // Nobody wants any.
            return;
        }
        let message = why.chars().take(REASON).map(|c| if c.is_control() { ' ' } else { c });
        let failure = PoolFailure { time: Moment::now(), message: message.collect() };
        // On a full disk the pool is seen to be short of VMs, without a word about it.
        let name = failure_of(shape);
        let beside = self.unsaid(&name);
        let written = serde_json::to_vec(&failure)
            .map_err(std::io::Error::other)
            .and_then(|bytes| fs::write(&beside, bytes))
            .and_then(|()| fs::rename(&beside, self.root().join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
    }

    /// Where a failure of this name is until it is whole. Several may say so at the same time, in this process,
    /// too: each has a file of its own.
    fn unsaid(&self, name: &str) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.root().join(format!(".{name}.{}.{number}.new", std::process::id()))
    }

    /// The pool can be filled with VMs of a shape.
    pub fn forget_pool_failure(&self, shape: Shape) {
        // Mostly it is not there; what can't be removed is told once more.
        let _ = fs::remove_file(self.root().join(failure_of(shape)));
    }

    /// Lets one at a time change the pool. Blocks.
    ///
    /// # Errors
    /// When the lock can't be taken.
    pub fn pool_lock(&self) -> Result<File, StateError> {
        let path = self.root().join("pool.lock");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(StateError::io("open", &path))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(StateError::os("lock", &path))?;
        Ok(file)
    }

    /// Makes the directory of a member, with its lock held and its socket listening. With
    /// [`pool_lock`](Self::pool_lock) held: nobody else sees half of it.
    ///
    /// # Errors
    /// When the disk says no; then nothing stays behind.
    pub fn new_member(
        &self,
        spec: &MemberSpec,
    ) -> Result<(Member, File, UnixListener), StateError> {
        let path = self.pool().join(spec.id.as_str());
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(StateError::io("make", &path))?;
        failpoint("pool: directory made");
        let fill = || {
            let open = |name: &str| {
                let path = path.join(name);
                let mut options = File::options();
                options.read(true).write(true).create_new(true).mode(0o600);
                options.open(&path).map_err(StateError::io("make", &path))
            };
            let lock = open("lock")?;
            open("claim")?;
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
                .map_err(StateError::os("lock", &path))?;
            atomic::replace(&path, MEMBER, spec)?;
            let member = Member::open(&path)?.ok_or_else(|| {
                StateError::io("open", &path)(std::io::Error::from(ErrorKind::NotFound))
            })?;
            let listener = UnixListener::bind(member.socket());
            Ok((member, lock, listener.map_err(StateError::io("listen in", &path))?))
        };
        fill().inspect_err(|_| drop(fs::remove_dir_all(&path)))
    }

    /// The member with this id.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn member(&self, id: &BoxId) -> Result<Option<Member>, StateError> {
        Member::open(&self.pool().join(id.as_str()))
    }

    /// All members, the oldest first. One that can't be read is none.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn members(&self) -> Result<Vec<Member>, StateError> {
        let paths = self.member_paths()?.into_iter();
        let mut members: Vec<Member> =
            paths.filter_map(|path| Member::open(&path).ok().flatten()).collect();
        members.sort_by_key(|member| member.spec.created);
        Ok(members)
    }

    fn member_paths(&self) -> Result<Vec<PathBuf>, StateError> {
        let pool = self.pool();
        let entries = match fs::read_dir(&pool) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StateError::io("list", &pool))?,
        };
        let is_id = |name: &std::ffi::OsStr| {
            name.to_str().is_some_and(|name| name.parse::<BoxId>().is_ok())
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths.filter(|path| path.file_name().is_some_and(is_id)).collect())
    }

    /// Removes what dead members have left, with [`pool_lock`](Self::pool_lock) held.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn sweep_pool(&self) -> Result<(), StateError> {
        for path in self.member_paths()? {
            match Member::open(&path) {
                Ok(Some(member)) if member.is_alive() => {}
                Ok(Some(member)) => member.remove(),
                // Who was making it was killed: nobody makes one now.
                _ => drop(fs::remove_dir_all(&path)),
            }
        }
        // Only when it is empty.
        let _ = fs::remove_dir(self.pool());
        Ok(())
    }

    /// Removes what those have left who were killed while they said why the pool could not be filled.
    pub fn sweep_unsaid_failures(&self) {
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| is_unsaid(name)) {
            // What can't be removed is told of nobody, and seen by the next sweep.
            let _ = fs::remove_file(self.root().join(name));
        }
    }
}

/// Whether a file of this name was to be a failure, and its writer has gone.
fn is_unsaid(name: &str) -> bool {
    let beside = name.strip_prefix('.').filter(|name| name.starts_with(FAILURE));
    let mut parts = beside
        .and_then(|name| name.strip_suffix(".new"))
        .into_iter()
        .flat_map(|name| name.rsplit('.'));
    let writer = parts.nth(1).and_then(|writer| writer.parse::<u32>().ok());
    // Its number may be another's by now: then it is swept when that has gone, too.
    writer.is_some_and(|writer| !Path::new(&format!("/proc/{writer}")).exists())
}

#[cfg(test)]
mod tests {
    use boxwood_types::ByteSize;

    use super::*;

    #[test]
    fn a_failure_is_told_for_its_shape_as_long_as_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let (small, large) =
            (Shape::default(), Shape::new(2, ByteSize::from_bytes(1 << 30)).unwrap());
        let one = |shape| PoolShape { shape, count: 1, image: "busybox".to_owned() };
        let said = || [small, large].map(|shape| home.pool_failure(shape).map(|f| f.message));
        home.note_pool_failure(small, "nobody wants it");
        assert_eq!(said(), [None, None]);
        home.write_pool_config(&PoolConfig { shapes: vec![one(small), one(large)] }).unwrap();
        home.note_pool_failure(small, "no room");
        home.note_pool_failure(large, "no memory");
        assert_eq!(said(), [Some("no room".to_owned()), Some("no memory".to_owned())]);
        // That one can be made says nothing about the other.
        home.forget_pool_failure(small);
        assert_eq!(said(), [None, Some("no memory".to_owned())]);
        home.note_pool_failure(small, "no room");
        home.write_pool_config(&PoolConfig { shapes: vec![one(small)] }).unwrap();
        assert_eq!(said(), [Some("no room".to_owned()), None]);
        home.write_pool_config(&PoolConfig::default()).unwrap();
        assert_eq!(said(), [None, None]);
    }

    #[test]
    fn failures_that_are_told_at_the_same_time_are_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let name = failure_of(Shape::default());
        assert_ne!(home.unsaid(&name), home.unsaid(&name));
    }

    #[test]
    fn h1_what_was_to_be_a_failure_is_swept_when_its_writer_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let name = failure_of(Shape::default());
        let lives = home.unsaid(&name);
        // No process has so high a number (proc(5), pid_max).
        let own = format!(".{}.", std::process::id());
        let gone = PathBuf::from(lives.to_str().unwrap().replace(&own, ".1073741824."));
        for path in [&gone, &lives] {
            fs::write(path, "{").unwrap();
        }
        home.sweep_unsaid_failures();
        assert_eq!((gone.exists(), lives.exists()), (false, true));
    }

    #[test]
    fn what_is_still_wanted_keeps_its_failure() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let wanted = PoolShape { shape: Shape::default(), count: 1, image: "busybox".to_owned() };
        home.write_pool_config(&PoolConfig { shapes: vec![wanted] }).unwrap();
        home.note_pool_failure(Shape::default(), "no room");
        // What can't be removed stands, and so does what is known of it.
        fs::remove_file(folder.path().join(CONFIG)).unwrap();
        fs::create_dir(folder.path().join(CONFIG)).unwrap();
        home.write_pool_config(&PoolConfig::default()).unwrap_err();
        assert!(home.pool_failure(Shape::default()).is_some());
    }
}
