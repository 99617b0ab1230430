//! `kill`: main gets a signal.

use boxwood_state::BoxDir;
use boxwood_state::control::{Reply, Request};
use boxwood_types::Signal;

use crate::shim_client::{self, FromShim};
use crate::wait::{ANSWER, LEAVE, in_time};
use crate::{Error, Listed, Runtime};

impl Runtime {
    /// Hands a signal on to the main of a box that this process has started, whatever its record
    /// says by now: a guest keeps it until main exists (contract G8).
    ///
    /// # Errors
    /// When the shim can't be asked. That it has gone is none: then the box has ended.
    pub async fn forward(&self, dir: &BoxDir, signal: Signal) -> Result<(), Error> {
        self.tell(dir, &Request::Signal { signal }).await
    }

    /// Sends main a signal. Returns when the shim has handed it on; for KILL, when the box has ended.
    ///
    /// # Errors
    /// When the box does not run or its shim can't be asked.
    pub async fn kill(&self, listed: &Listed, signal: Signal) -> Result<(), Error> {
        let not_running = || Error::WrongState {
            id: listed.spec.id.clone(),
            state: listed.record.state,
            hint: "it is not running, so there is nothing to signal",
        };
        if !listed.record.state.is_live() {
            return Err(not_running());
        }
        let asked = shim_client::ask(&listed.dir, &Request::Signal { signal }).await?;
        let Some((mut reader, _writer)) = asked else { return Err(not_running()) };
        match in_time(&listed.dir, ANSWER, reader.next()).await? {
            Some(FromShim::Reply(Reply::Refused { state, message })) => {
                return Err(Error::Refused { id: listed.spec.id.clone(), state, message });
            }
            Some(_) => {}
            None => return Err(Error::ShimLost { id: listed.spec.id.clone() }),
        }
        if signal == Signal::KILL {
            match self.ask_and_see(&listed.dir, &Request::Wait, LEAVE).await {
                // A box that is removed at its end leaves no record; it did end.
                Ok(_) | Err(Error::ShimLost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
