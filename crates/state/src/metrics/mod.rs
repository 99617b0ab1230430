//! What is counted about boxes, and how long things took (contract H12).
//!
//! Nothing has to run for it. Each box has a small file that whoever owns the box writes to in place, so
//! that a shim that is killed loses nothing; when a box is removed, what its file says is added to the
//! home's totals. Whoever wants to know adds up both. There are no ids of boxes in the sums, so they
//! have as many series whatever a home has seen.

mod counters;
mod tally;
mod totals;

pub use counters::Counters;
pub use tally::{Spread, Tally};
pub(crate) use totals::{OF_BOX, Totals};

/// What is counted. The order is that of the files: new ones are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Boxes that came to exist.
    BoxesRegistered,
    /// VMs that were waited for by the one who started them.
    ChildrenReaped,
    /// VMs whose end nobody saw: of shims that were lost.
    ChildrenVanished,
    /// VMs restored from templates.
    Restores,
    /// Commands started beside main.
    Execs,
    /// Boxes started again by their restart policies.
    Restarts,
    /// Boxes that became healthy.
    TurnedHealthy,
    /// Boxes that became unhealthy.
    TurnedUnhealthy,
    /// Bytes of main's output that were logged.
    LogBytes,
    /// Bytes of standard input that went into boxes.
    BytesIn,
    /// Bytes of output that came out of boxes.
    BytesOut,
    /// Processes that guests reaped and that were neither main nor a session's own; a guest's claim.
    OrphansReaped,
    /// Sessions that guests began, main among them; a guest's claim.
    GuestSessions,
    /// Health checks that came to a result.
    HealthProbes,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// A VM's restore: from the template that is found to vCPUs that run.
    Restore,
    /// A start: from the shim's beginning to a main that runs.
    Start,
    /// A command's start beside main: from the client's request to a process that runs.
    Exec,
}

/// What one needs to show something that is counted or timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// The name of its family, without a prefix or suffix.
    pub family: &'static str,
    /// What tells it from others of its family.
    pub label: Option<(&'static str, &'static str)>,
    /// What it is, in a sentence without an end.
    pub help: &'static str,
}

impl Counter {
    /// All of them, those of a family beside each other.
    pub const ALL: [Counter; 14] = [
        Counter::BoxesRegistered,
        Counter::ChildrenReaped,
        Counter::ChildrenVanished,
        Counter::Restores,
        Counter::Execs,
        Counter::Restarts,
        Counter::TurnedHealthy,
        Counter::TurnedUnhealthy,
        Counter::LogBytes,
        Counter::BytesIn,
        Counter::BytesOut,
        Counter::OrphansReaped,
        Counter::GuestSessions,
        Counter::HealthProbes,
    ];

    /// How it is shown.
    pub fn series(self) -> Series {
        let (family, label, help) = match self {
            Counter::BoxesRegistered => ("boxes_registered", None, "Boxes that came to exist"),
            Counter::ChildrenReaped => ("children_reaped", None, "VMs reaped by their shims"),
            Counter::ChildrenVanished => {
                ("children_vanished", None, "VMs whose end nobody saw, of lost shims")
            }
            Counter::Restores => ("restores", None, "VMs restored from templates"),
            Counter::Execs => ("execs", None, "Commands started beside a main"),
            Counter::Restarts => ("restarts", None, "Boxes started again by their restart policy"),
            Counter::TurnedHealthy => {
                ("health_changes", Some(("to", "healthy")), "Changes of boxes' health")
            }
            Counter::TurnedUnhealthy => {
                ("health_changes", Some(("to", "unhealthy")), "Changes of boxes' health")
            }
            Counter::LogBytes => ("log_bytes", None, "Bytes of main's output that were logged"),
            Counter::BytesIn => {
                ("stream_bytes", Some(("direction", "in")), "Bytes of standard streams")
            }
            Counter::BytesOut => {
                ("stream_bytes", Some(("direction", "out")), "Bytes of standard streams")
            }
            Counter::OrphansReaped => {
                ("guest_orphans_reaped", None, "Orphans reaped in boxes, as guests last said")
            }
            Counter::GuestSessions => {
                ("guest_sessions", None, "Sessions begun in boxes, as guests last said")
            }
            Counter::HealthProbes => ("health_probes", None, "Health checks made"),
        };
        Series { family, label, help }
    }

    /// What it is called on the disk.
    fn key(self) -> String {
        let Series { family, label, .. } = self.series();
        match label {
            Some((_, value)) => format!("{family}_{value}"),
            None => family.to_owned(),
        }
    }
}

impl Timing {
    /// All of them.
    pub const ALL: [Timing; 3] = [Timing::Restore, Timing::Start, Timing::Exec];

    /// How it is shown.
    pub fn series(self) -> Series {
        let (family, help) = match self {
            Timing::Restore => ("restore_duration", "Restores of VMs"),
            Timing::Start => ("start_duration", "Starts of boxes, up to a main that runs"),
            Timing::Exec => ("exec_duration", "Starts of commands beside a main"),
        };
        Series { family, label: None, help }
    }

    fn key(self) -> String {
        self.series().family.to_owned()
    }
}
