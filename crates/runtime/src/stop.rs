//! `stop`: main is asked to end, then made to.

use std::time::Duration;

use boxwood_state::ExitRecord;
use boxwood_state::control::Request;
use boxwood_types::Signal;

use crate::wait::{FOR_EVER, LEAVE};
use crate::{Error, Listed, Runtime};

impl Runtime {
    /// Stops a box: its stop signal, its grace, KILL; or as said here. Returns when it has ended.
    /// A box that does not run is left as it is: that is `None`.
    ///
    /// # Errors
    /// When its shim can't be asked, or ends without a word; and when the box has ended, and that could not be
    /// written down.
    pub async fn stop(
        &self,
        listed: &Listed,
        signal: Option<Signal>,
        grace_ms: Option<u64>,
    ) -> Result<Option<ExitRecord>, Error> {
        if !listed.record.state.is_live() {
            return Ok(None);
        }
        let request = Request::Stop { signal, grace_ms };
        let grace = Duration::from_millis(grace_ms.unwrap_or(listed.spec.stop.grace_ms));
        let within = grace.min(FOR_EVER) + LEAVE;
        self.ask_and_see(&listed.dir, &request, within).await.map(Some)
    }
}
