//! The lock under which one template is baked or removed. Called by `template`.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::error::Error;

/// A held lock; dropped, or with its process dead, it is free.
#[derive(Debug)]
#[must_use]
pub(super) struct Lock {
    _held: OwnedFd,
}

/// A lock, or the file to wait for it with.
enum Tried {
    Taken(Lock),
    Busy(File),
}

fn attempt(path: &Path) -> Result<Tried, Error> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Tried::Taken(Lock { _held: file.into() })),
        Err(Errno::WOULDBLOCK) => Ok(Tried::Busy(file)),
        Err(errno) => Err(Error::io("lock", path)(errno.into())),
    }
}

/// Takes the lock if nobody has it.
pub(super) fn take_if_free(path: &Path) -> Result<Option<Lock>, Error> {
    match attempt(path)? {
        Tried::Taken(lock) => Ok(Some(lock)),
        Tried::Busy(_) => Ok(None),
    }
}

/// Takes the lock; if somebody else has it, calls `waiting` once and waits until it is free.
pub(super) async fn take(path: &Path, waiting: impl FnOnce()) -> Result<Lock, Error> {
    let failed = |error: io::Error| Error::io("lock", path)(error);
    let file = match attempt(path)? {
        Tried::Taken(lock) => return Ok(lock),
        Tried::Busy(file) => file,
    };
    waiting();
    let (sender, receiver) = oneshot::channel();
    // Not of the blocking pool, whose threads an event loop waits for when it ends. If nobody waits
    // any more when the lock comes, it is let go at once.
    std::thread::Builder::new()
        .name("template-lock".into())
        .spawn(move || {
            let locked = rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive));
            drop(sender.send(locked.map(|()| Lock { _held: file.into() })));
        })
        .map_err(failed)?;
    match receiver.await {
        Ok(locked) => locked.map_err(|errno| failed(errno.into())),
        Err(_) => Err(failed(io::ErrorKind::Interrupted.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_second_taker_is_told_to_wait_and_gets_it_when_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = take(&path, || panic!("it is free")).await.unwrap();
        let told = AtomicBool::new(false);
        let second = take(&path, || told.store(true, Ordering::SeqCst));
        let mut second = std::pin::pin!(second);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
        assert!(early.is_err() && told.load(Ordering::SeqCst));
        drop(first);
        let _second = tokio::time::timeout(Duration::from_secs(5), second).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_who_stopped_waiting_does_not_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = take(&path, || ()).await.unwrap();
        let waiter = take(&path, || ());
        assert!(tokio::time::timeout(Duration::from_millis(20), waiter).await.is_err());
        drop(first);
        let third = tokio::time::timeout(Duration::from_secs(5), take(&path, || ())).await;
        drop(third.unwrap().unwrap());
    }
}
