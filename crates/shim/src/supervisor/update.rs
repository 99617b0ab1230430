//! What can be changed of a box that runs: its spec is read again. Asked for by `update`.

use boxwood_state::control::Reply;
use boxwood_types::{HealthStatus, chain};

use super::Supervisor;

impl Supervisor {
    /// Takes over what the spec on disk says about policies. Returns why not.
    pub(super) fn heed(&mut self) -> Option<Reply> {
        match self.dir.spec() {
            Ok(spec) => {
                self.spec.restart = spec.restart;
                self.spec.stop = spec.stop;
                self.spec.health = spec.health;
                None
            }
            Err(error) => {
                let (state, message) = (self.record.state, chain(&error));
                Some(Reply::Refused { state, message })
            }
        }
    }

    /// The same in a box that has a VM.
    pub(super) fn reload(&mut self) -> Option<Reply> {
        let refused = self.heed();
        let Some(monitor) = &self.run.health else { return refused };
        monitor.change(self.spec.health.clone());
        let health = match (&self.spec.health, self.record.health) {
            (None, _) => None,
            (Some(_), known) => Some(known.unwrap_or(HealthStatus::Starting)),
        };
        if health != self.record.health {
            self.record.health = health;
            self.persist(self.record.state);
        }
        refused
    }
}
