//! `pause` and `unpause`: a VM stands still with everything in it, and goes on.

use boxwood_state::control::{Reply, Request};

use crate::shim_client::{self, FromShim};
use crate::wait::{PAUSE, in_time};
use crate::{Error, Listed, Runtime};

impl Runtime {
    /// Lets a running box stand still. Returns when it does.
    ///
    /// # Errors
    /// When it does not run, or its VM can't be stopped.
    pub async fn pause(&self, listed: &Listed) -> Result<(), Error> {
        self.turn(listed, &Request::Pause).await
    }

    /// Lets a paused box go on. Returns when it does.
    ///
    /// # Errors
    /// When it is not paused, or its VM does not go on.
    pub async fn unpause(&self, listed: &Listed) -> Result<(), Error> {
        self.turn(listed, &Request::Unpause).await
    }

    async fn turn(&self, listed: &Listed, request: &Request) -> Result<(), Error> {
        let (id, state) = (&listed.spec.id, listed.record.state);
        let not_running = || {
            let hint = "only a box that runs can be paused or unpaused";
            Error::WrongState { id: id.clone(), state, hint }
        };
        if !state.is_live() {
            return Err(not_running());
        }
        let asked = shim_client::ask(&listed.dir, request).await?;
        let Some((mut reader, _writer)) = asked else { return Err(not_running()) };
        match in_time(&listed.dir, PAUSE, reader.next()).await? {
            Some(FromShim::Reply(Reply::Done)) => Ok(()),
            Some(FromShim::Reply(Reply::Refused { state, message })) => {
                Err(Error::Refused { id: id.clone(), state, message })
            }
            Some(FromShim::Reply(Reply::Ended { .. })) | None => Err(not_running()),
            Some(_) => Err(Error::ShimProtocol { id: id.clone() }),
        }
    }
}
