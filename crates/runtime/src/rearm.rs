//! Boxes whose restart policy wants them to run and whose shim can't see to it any more: for who looks over a
//! home when it begins, and nobody else. No verb restarts a box by the way.

use boxwood_types::{BoxState, RestartPolicy};

use crate::Listed;

impl Listed {
    /// Whether a daemon that begins is to start this box: as Docker does after a boot of the host. A lost
    /// box has failed, and `always` means also one that somebody stopped before.
    pub fn is_due(&self) -> bool {
        let (policy, record) = (self.spec.restart, &self.record);
        if record.state != BoxState::Exited {
            return false;
        }
        match policy {
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !record.stopped,
            RestartPolicy::OnFailure { max } => {
                let failed = record.exit.as_ref().is_some_and(|exit| exit.code != 0);
                failed && !record.stopped && max.is_none_or(|max| record.restarts < max.get())
            }
        }
    }
}
