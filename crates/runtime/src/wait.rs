//! `wait`: until a box has ended.

use boxwood_state::control::Request;
use boxwood_state::{BoxDir, ExitRecord};
use boxwood_types::BoxState;

use crate::{Error, Listed, Runtime, shim_client};

impl Runtime {
    /// Waits until a box has ended and says how. Returns at once for one that has.
    ///
    /// # Errors
    /// When the box was never started, or vanished without anybody knowing its result.
    pub async fn wait(&self, listed: Listed) -> Result<ExitRecord, Error> {
        if listed.record.state == BoxState::Created {
            let hint = "it was never started, so there is nothing to wait for";
            let (id, state) = (listed.spec.id, listed.record.state);
            return Err(Error::WrongState { id, state, hint });
        }
        if !listed.record.state.is_live() {
            return listed.record.exit.ok_or(Error::ShimLost { id: listed.spec.id });
        }
        self.ask_and_wait(&listed.dir, &Request::Wait).await
    }

    /// Asks a box's shim for something that ends in the end of the box, and waits for that.
    pub(crate) async fn ask_and_wait(
        &self,
        dir: &BoxDir,
        request: &Request,
    ) -> Result<ExitRecord, Error> {
        if let Some((mut reader, _writer)) = shim_client::ask(dir, request).await?
            && let Some(exit) = reader.ended().await?
        {
            return Ok(exit);
        }
        // The shim hung up, so it has written the end down or has died; its lock tells when.
        self.end_without_shim(dir).await
    }

    /// How a box ended whose shim is gone or going.
    pub(crate) async fn end_without_shim(&self, dir: &BoxDir) -> Result<ExitRecord, Error> {
        let lost = || Error::ShimLost { id: dir.id().clone() };
        let path = dir.path().to_owned();
        // The wait for a lock is an event, but a blocking one.
        let waited = tokio::task::spawn_blocking(move || match BoxDir::open(&path)? {
            Some(dir) => dir.lock().map(drop),
            None => Ok(()),
        });
        match waited.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) if !dir.path().exists() => return Err(lost()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(lost()),
        }
        self.record(dir)?.and_then(|record| record.exit).ok_or_else(lost)
    }
}
