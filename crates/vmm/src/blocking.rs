//! Work that reads and writes much, on a thread of its own, until it is done or nobody waits for it any more.
//! Called for templates and snapshots.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

thread_local! {
    /// Whether the work of this thread has been given up, if it has work.
    static GIVEN_UP: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Gives the work up when it is dropped.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs what reads and writes much where it holds nobody up. When this is dropped before it is done, the work
/// ends with an error where it next asks whether it is [`wanted`].
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let lost = Error::prepare("a thread");
    let given_up = Arc::new(AtomicBool::new(false));
    let _waiting = Waiting(Arc::clone(&given_up));
    let work = move || {
        GIVEN_UP.set(Some(given_up));
        let done = work();
        // The thread is used again, by others.
        GIVEN_UP.set(None);
        done
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| lost(io::Error::other(error)))?
}

/// To be asked where much is read.
///
/// # Errors
/// When nobody waits for the work of this thread any more.
pub(crate) fn wanted() -> io::Result<()> {
    let given_up = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
    match GIVEN_UP.with_borrow(|flag| flag.as_ref().is_some_and(given_up)) {
        true => Err(io::Error::other("nobody waits for it any more")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::template::{Zeros, content};

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_read_no_further() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"data").unwrap();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (ended, end) = mpsc::channel();
        let work = blocking(move || {
            content(&file, Zeros::Leave).expect("it is wanted");
            begun.send(()).unwrap();
            while content(&file, Zeros::Leave).is_ok() {}
            ended.send(()).unwrap();
            Ok(())
        });
        tokio::select! {
            _ = work => unreachable!("it never ends by itself"),
            _ = begins => {}
        }
        end.recv_timeout(Duration::from_secs(10)).expect("it was given up");
        // Others of that thread, and who has no such work, are not.
        blocking(|| wanted().map_err(Error::prepare("a test"))).await.unwrap();
        wanted().unwrap();
    }
}
