//! `update`: what a box is to be from now on, whether it runs or not.

use boxwood_state::control::{Reply, Request};
use boxwood_state::events::Action;
use boxwood_state::{AfterExit, StopPolicy};
use boxwood_types::RestartPolicy;

use crate::shim_client::{self, FromShim};
use crate::wait::{ANSWER, in_time};
use crate::{Error, HealthWishes, Listed, Runtime};

/// What is to be changed. What is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateRequest {
    /// Whether it is started again when it has ended by itself.
    pub restart: Option<RestartPolicy>,
    /// How its health is checked.
    pub health: HealthWishes,
    /// What main may take to end, in milliseconds.
    pub stop_grace_ms: Option<u64>,
}

impl Runtime {
    /// Changes a box. It is written down first; then its shim, if it has one, heeds it.
    ///
    /// # Errors
    /// When the changes do not go together or do not fit the box, or its shim can't be told.
    pub async fn update(&self, listed: &Listed, request: &UpdateRequest) -> Result<(), Error> {
        request.health.check()?;
        let restarts = request.restart.is_some_and(|policy| policy != RestartPolicy::No);
        if restarts && listed.spec.after_exit == AfterExit::Remove {
            return Err(Error::RestartOfRemoved { id: listed.spec.id.clone() });
        }
        let spec = self.home.change_spec(&listed.dir, |spec| {
            spec.restart = request.restart.unwrap_or(spec.restart);
            spec.health = request.health.change(spec.health.take());
            let grace_ms = request.stop_grace_ms.unwrap_or(spec.stop.grace_ms);
            spec.stop = StopPolicy { grace_ms, ..spec.stop };
        })?;
        if let Some((mut reader, _writer)) = shim_client::ask(&listed.dir, &Request::Reload).await?
            && let Some(FromShim::Reply(Reply::Refused { state, message })) =
                in_time(&listed.dir, ANSWER, reader.next()).await.map_err(unheeded)?
        {
            return Err(Error::Refused { id: spec.id, state, message });
        }
        self.home.announce(&spec, &Action::Update);
        Ok(())
    }
}

/// What has not been answered is heeded all the same.
fn unheeded(error: Error) -> Error {
    match error {
        Error::NoAnswer { id, within, shim, vmm } => Error::Unheeded { id, within, shim, vmm },
        other => other,
    }
}
