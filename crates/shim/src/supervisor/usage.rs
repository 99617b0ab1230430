//! What the VM takes of the host. Asked for by `stats`.

use boxwood_state::control::{self, Reply};
use boxwood_vmm::Usage;

use super::Supervisor;
use crate::life::Life;

impl Supervisor {
    pub(super) fn usage(&self, life: &Life) -> Reply {
        let found = self.run.vm.as_ref().map(Usage::of);
        match found {
            Some(Ok(Usage { cpu_ns, memory, read, written })) => {
                Reply::Usage { usage: control::Usage { cpu_ns, memory, read, written } }
            }
            _ => {
                let message = "its VM can't be looked at".to_owned();
                Reply::Refused { state: life.state(), message }
            }
        }
    }
}
