//! Watching over a shim whose answer may take long, because a guest gives it: is the shim there at all? Used by
//! `shim_client`.

use std::io::ErrorKind;
use std::time::Duration;

use boxwood_shim::halves;
use boxwood_state::{BoxDir, clock};
use rustix::net::{Shutdown, shutdown};
use tokio::task::JoinSet;

use crate::Error;
use crate::shim_client::connected;
use crate::wait::{ANSWER, no_answer};

/// How long nothing may be heard of a shim before it is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(5);

/// It goes on until this is dropped.
#[derive(Debug)]
pub(crate) struct Vigil(JoinSet<Error>);

impl Vigil {
    /// Over the shim of this box.
    pub(crate) fn begin(dir: &BoxDir) -> Result<Vigil, Error> {
        let mut watching = JoinSet::new();
        if let Some(dir) = BoxDir::open(dir.path())? {
            watching.spawn(watch(dir));
        }
        Ok(Vigil(watching))
    }

    /// Returns when the shim gives no sign of life.
    pub(crate) async fn given_up(&mut self) -> Error {
        match self.0.join_next().await {
            Some(Ok(error)) => error,
            _ => std::future::pending().await,
        }
    }
}

async fn watch(dir: BoxDir) -> Error {
    loop {
        // What is waited for is the end of this task: the answer.
        tokio::time::sleep(SILENCE).await;
        // Nobody answers for a box that is being made: that its maker dies is heard.
        let has_shim = dir.record().is_ok_and(|record| record.state.is_live());
        let within = ANSWER.saturating_sub(SILENCE);
        if has_shim
            && tokio::time::timeout(within, sign_of_life(&dir)).await.is_err()
            && !waits_for_disk(&dir)
        {
            return no_answer(&dir, ANSWER);
        }
    }
}

/// Whether the shim is there and writes, which takes as long as its disk does.
fn waits_for_disk(dir: &BoxDir) -> bool {
    let shim = dir.record().ok().and_then(|record| record.shim);
    shim.is_some_and(|shim| {
        clock::process_state(shim.pid) == Some('D')
            && clock::process_start_ticks(shim.pid) == shim.start_ticks
    })
}

/// Returns when the shim has hung up on one who asks for nothing, or has gone, which is heard otherwise. It does
/// that whatever its box is at.
async fn sign_of_life(dir: &BoxDir) {
    let socket = match connected(&dir.socket()) {
        Ok(socket) => socket,
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            return;
        }
        // There are too many before it.
        Err(_) => return std::future::pending().await,
    };
    if shutdown(&socket, Shutdown::Write).is_ok()
        && let Ok((mut read, _write)) = halves::split(socket)
    {
        while read.read(&mut [0]).await.is_ok_and(|count| count > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use boxwood_state::Record;
    use boxwood_types::BoxState;

    use super::*;

    /// A box that is at something, and the door of its shim.
    fn at(state: BoxState) -> (tempfile::TempDir, BoxDir, UnixListener) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("7".repeat(64));
        std::fs::create_dir(&path).unwrap();
        let dir = BoxDir::open(&path).unwrap().unwrap();
        dir.write_record(&Record { state, ..Record::created() }).unwrap();
        let door = dir.listen().unwrap();
        (folder, dir, door)
    }

    #[tokio::test(start_paused = true)]
    async fn h3_a_shim_that_lets_nobody_in_is_given_up_and_one_that_is_not_there_yet_is_not() {
        let (_folder, dir, door) = at(BoxState::Running);
        let error = Vigil::begin(&dir).unwrap().given_up().await;
        assert!(error.to_string().contains("did not answer within 10 s"), "{error}");
        drop(door);
        for state in [BoxState::Created, BoxState::Running] {
            let (_folder, dir, door) = at(state);
            if state == BoxState::Running {
                drop(door);
            }
            let mut vigil = Vigil::begin(&dir).unwrap();
            let waited = tokio::time::timeout(Duration::from_secs(100), vigil.given_up()).await;
            assert!(waited.is_err(), "{state}: {waited:?}");
        }
    }
}
