//! What became of a box so far. Replaced at every transition, by the one who holds the box's lock.

use boxwood_types::{BoxState, ExitReason, ExitStatus, HealthStatus};
use serde::{Deserialize, Serialize};

use crate::clock::{self, Moment};

/// The latest transition of a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it is in its life.
    pub state: BoxState,
    /// The shim that moved it there, for people and for recovery: the lock is the proof, not this.
    pub shim: Option<ShimIdentity>,
    /// The process id of QEMU.
    pub vmm_pid: Option<u32>,
    /// When main last started.
    pub started: Option<Moment>,
    /// When the box last ended.
    pub finished: Option<Moment>,
    /// How it last ended.
    pub exit: Option<ExitRecord>,
    /// How many times its restart policy has started it again since somebody last did.
    #[serde(default)]
    pub restarts: u32,
    /// How it fares, if its health is checked.
    #[serde(default)]
    pub health: Option<HealthStatus>,
    /// Somebody stopped or killed it: a policy `unless-stopped` leaves it so.
    #[serde(default)]
    pub stopped: bool,
}

/// How a box ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Main's result.
    pub status: ExitStatus,
    /// Why there is no more of it.
    pub reason: ExitReason,
    /// The exit code Docker would show: main's, or 125, 126, 127 when it never ran.
    pub code: u8,
    /// More, for people: an error, the last lines of the console.
    pub message: Option<String>,
}

/// A process, told from later ones with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimIdentity {
    /// Process id.
    pub pid: u32,
    /// [`clock::process_start_ticks`].
    pub start_ticks: Option<u64>,
    /// [`clock::host_boot_id`].
    pub boot_id: String,
}

impl ShimIdentity {
    /// The calling process.
    pub fn current() -> Self {
        let pid = std::process::id();
        ShimIdentity {
            pid,
            start_ticks: clock::process_start_ticks(pid),
            boot_id: clock::host_boot_id(),
        }
    }
}

impl Record {
    /// A box that exists and was never started.
    pub fn created() -> Self {
        Record {
            state: BoxState::Created,
            shim: None,
            vmm_pid: None,
            started: None,
            finished: None,
            exit: None,
            restarts: 0,
            health: None,
            stopped: false,
        }
    }

    /// What to make of a record whose box nobody holds: a live state without its shim is a box that
    /// was lost (contract H6). `None` when the record is true as it stands.
    pub fn recovered(&self, boot_id: &str, now: Moment) -> Option<Record> {
        if !self.state.is_live() {
            return None;
        }
        if let (BoxState::Stopping, Some(exit)) = (self.state, &self.exit) {
            // Main's result was known before.
            let message = Some("its disk may not be flushed: its shim was lost".to_owned());
            let exit = Some(ExitRecord { message, ..exit.clone() });
            let (state, finished) = (BoxState::Exited, Some(now));
            return Some(Record { state, vmm_pid: None, finished, exit, ..self.clone() });
        }
        let rebooted = self.shim.as_ref().is_some_and(|shim| shim.boot_id != boot_id);
        let reason = if rebooted { ExitReason::HostRebooted } else { ExitReason::Lost };
        let ran = self.started.is_some() && self.state != BoxState::Starting;
        let (state, reason, code) = if ran {
            (BoxState::Exited, reason, ExitStatus::Unknown.shell_code())
        } else {
            (BoxState::Failed, reason, 125)
        };
        let exit = ExitRecord { status: ExitStatus::Unknown, reason, code, message: None };
        Some(Record { state, vmm_pid: None, finished: Some(now), exit: Some(exit), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Record {
        let shim = ShimIdentity { pid: 7, start_ticks: Some(1), boot_id: "here".into() };
        Record {
            state: BoxState::Running,
            shim: Some(shim),
            vmm_pid: Some(8),
            started: Some(Moment(1)),
            ..Record::created()
        }
    }

    #[test]
    fn h6_a_live_record_without_its_shim_is_lost_and_its_result_unknown() {
        let lost = running().recovered("here", Moment(2)).unwrap();
        let exit = lost.exit.unwrap();
        assert_eq!((lost.state, exit.reason), (BoxState::Exited, ExitReason::Lost));
        assert_eq!(exit.status, ExitStatus::Unknown);
        let rebooted = running().recovered("another", Moment(2)).unwrap();
        assert_eq!(rebooted.exit.unwrap().reason, ExitReason::HostRebooted);
    }

    #[test]
    fn h6_a_result_that_was_known_is_not_lost_with_the_shim() {
        let status = ExitStatus::Code(7);
        let exit = ExitRecord { status, reason: ExitReason::Exited, code: 7, message: None };
        let record = Record { state: BoxState::Stopping, exit: Some(exit), ..running() };
        let lost = record.recovered("here", Moment(2)).unwrap();
        assert_eq!((lost.state, lost.exit.unwrap().status), (BoxState::Exited, status));
        // The result of an earlier run is none of this one.
        let record = Record { state: BoxState::Running, ..record };
        assert_eq!(
            record.recovered("here", Moment(2)).unwrap().exit.unwrap().status,
            ExitStatus::Unknown
        );
    }

    #[test]
    fn h6_a_box_that_never_ran_failed() {
        let record = Record { state: BoxState::Starting, started: None, ..running() };
        let lost = record.recovered("here", Moment(2)).unwrap();
        assert_eq!((lost.state, lost.exit.unwrap().code), (BoxState::Failed, 125));
    }

    #[test]
    fn h6_an_ended_box_stays_as_it_is() {
        for state in [BoxState::Created, BoxState::Exited, BoxState::Failed] {
            assert_eq!(Record { state, ..running() }.recovered("here", Moment(2)), None);
        }
    }
}
