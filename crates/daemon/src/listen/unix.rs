//! The Unix socket: made with its rights before anybody can find it, taken over from a daemon that has
//! died and from no other, and gone when its daemon is.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Mode, OFlags};
use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The operating system said no.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody serves there.
    #[error("somebody listens on {} already: give another --socket", .0.display())]
    InUse(PathBuf),
    /// It is something else.
    #[error("{} is there and is no socket: give another --socket", .0.display())]
    NoSocket(PathBuf),
    /// The group is not known here.
    #[error("there is no group '{0}' here: see 'getent group'")]
    NoGroup(String),
}

/// The file of a socket, and the lock that makes it ours. Dropped, both files go.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
    lock: PathBuf,
    _held: File,
}

/// Listens on a socket that has its owner's rights alone, or its group's, too, from the moment it can
/// be seen.
pub(crate) fn bind(
    path: &Path,
    group: Option<&str>,
) -> Result<(UnixListener, SocketFile), SocketError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SocketError::Io { action, path, source }
    };
    let group = group.map(group_id).transpose()?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let named = |suffix: &str| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        directory.join(format!("{name}{suffix}"))
    };
    let lock = named(".lock");
    let held = hold(&lock).map_err(io("lock", &lock))?;
    let held = held.ok_or_else(|| SocketError::InUse(path.to_owned()))?;
    check_free(path)?;
    let fresh = named(".new");
    let _ = fs::remove_file(&fresh);
    // By a path that fits into a socket's address, however long the directory's is.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|errno| io("open", directory)(errno.into()))?;
    let name = fresh.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let short = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
    let result =
        UnixListener::bind(short).map_err(io("make the socket", &fresh)).and_then(|made| {
            let mode = if group.is_some() { 0o660 } else { 0o600 };
            fs::set_permissions(&fresh, PermissionsExt::from_mode(mode))
                .map_err(io("set the rights of", &fresh))?;
            if let Some(group) = group {
                rustix::fs::chown(&fresh, None, Some(group))
                    .map_err(|errno| io("give the group", &fresh)(errno.into()))?;
            }
            fs::rename(&fresh, path).map_err(io("make the socket", path))?;
            Ok(made)
        });
    let listener = result.inspect_err(|_| {
        let _ = fs::remove_file(&fresh);
    })?;
    let inode = fs::symlink_metadata(path).map_err(io("look at", path))?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode, lock, _held: held }))
}

/// Takes the lock that goes with a socket. `None` when a daemon that lives has it.
fn hold(path: &Path) -> io::Result<Option<File>> {
    loop {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc_nofollow()).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        // Its last holder may have removed it meanwhile: then this one is nobody's.
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.ino() == file.metadata()?.ino() => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

fn libc_nofollow() -> i32 {
    OFlags::NOFOLLOW.bits() as i32
}

/// Whether nobody listens there: what a dead daemon left is free. To be called with the lock held.
fn check_free(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { action: "look at", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// A group by name or number (group(5)).
fn group_id(name: &str) -> Result<Gid, SocketError> {
    let unknown = || SocketError::NoGroup(name.to_owned());
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let groups = fs::read_to_string("/etc/group").map_err(|_| unknown())?;
    let line = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = line.into_iter().find(|fields| fields.first() == Some(&name));
    let number = found.and_then(|fields| fields.get(2)?.parse().ok());
    number.map(Gid::from_raw).ok_or_else(unknown)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Only if it is still ours. The lock goes last, while it is held.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = fs::remove_file(&self.lock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_goes_with_its_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (listener, file) = bind(&path, None).unwrap();
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(bind(&path, None), Err(SocketError::InUse(_))));
        drop((listener, file));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_socket_of_a_group_is_the_groups_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let own = rustix::process::getegid().as_raw();
        let _bound = bind(&path, Some(&own.to_string())).unwrap();
        assert_eq!((mode(&path), fs::metadata(&path).unwrap().gid()), (0o660, own));
        let other = directory.path().join("b.sock");
        assert!(matches!(bind(&other, Some("no such")), Err(SocketError::NoGroup(_))));
    }

    #[tokio::test]
    async fn what_a_dead_daemon_left_is_taken_over_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(bind(&path, None).unwrap());
        let stranger = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path, None), Err(SocketError::InUse(_))));
        drop(stranger);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path, None), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_socket_in_a_long_directory_can_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(120));
        fs::create_dir(&long).unwrap();
        let _bound = bind(&long.join("a.sock"), None).unwrap();
        assert_eq!(mode(&long.join("a.sock")), 0o600);
    }
}
