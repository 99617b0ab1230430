//! The life of a box from its restore to its end: what each event means in each state.
//!
//! ```text
//!             MainStarted          MainEnded                 GuestLeft
//!  Starting ──────────────▶ Running ──────────▶ Leaving ──────────────▶ Ending
//!     │ │                      │  (disk kept)      ▲ │  deadline, VmExited  ▲
//!     │ │ StopAsked            │ StopAsked         │ └─────────────────────▶│
//!     │ └───────▶ Stopping ◀───┘                   │                        │
//!     │              │ └──────── MainEnded ────────┘                        │
//!     └──────────────┴── refused, VmExited, LinkLost, KillAsked, deadline ──┘
//! ```
//!
//! Running ── PauseAsked ──▶ Paused ── UnpauseAsked ──▶ Running; everything else that happens to a
//! running box can happen to a paused one, too.
//!
//! This is policy alone: no I/O, no clock. The [supervisor](crate::supervisor) feeds it and does
//! what it says.

use std::time::{Duration, Instant};

use boxwood_state::{AfterExit, ExitRecord, StopPolicy};
use boxwood_types::{BoxState, ExitReason, ExitStatus, HealthStatus, Signal, StartRefusal};

/// How long a restored guest may take to have main running; the contract's cap (H4).
const START: Duration = Duration::from_secs(120);
/// What the guest may take for killing the rest and flushing its disk.
const LEAVING: Duration = Duration::from_secs(60);
/// How long a guest's last word is awaited when nothing else is: it is sent behind main's end.
const LAST_WORD: Duration = Duration::from_secs(1);
/// What the guest may take beyond the grace it was given, before the VM itself is ended.
const BEYOND_GRACE: Duration = Duration::from_secs(10);

/// Where a box is, as its shim sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The VM is restored; main is not started yet.
    Starting {
        /// When a VM that is alive and wedged is given up (contract H4).
        give_up_at: Instant,
    },
    /// Main runs.
    Running,
    /// The VM stands still with everything in it.
    Paused,
    /// Main was asked to end.
    Stopping {
        /// When the VM is ended, whatever the guest says.
        kill_at: Instant,
    },
    /// Main has ended and the guest flushes its disk.
    Leaving {
        /// Main's result.
        exit: ExitRecord,
        /// What main was before.
        was: Was,
        /// When the VM is ended, whatever the guest says.
        kill_at: Instant,
    },
    /// The result stands; the VM is being ended.
    Ending {
        /// How the box ended.
        exit: ExitRecord,
    },
}

/// What main was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// Nobody wanted it to end.
    Running,
    /// It was asked to.
    Stopping,
}

/// The last word of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// What went wrong with its disk.
    pub(crate) flush_error: Option<String>,
    /// Whether its kernel had to kill for memory.
    pub(crate) memory: Memory,
}

/// Whether there was enough memory in the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Enough,
    Short,
}

/// What can happen to a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Main's exec succeeded.
    MainStarted,
    /// Main can't be started.
    MainRefused(StartRefusal, String),
    /// The box can't be started.
    StartFailed(String),
    /// Main ended, and all its output was taken.
    MainEnded(ExitStatus),
    /// The guest has nothing more to do.
    GuestLeft(Left),
    /// The channel ended; the text says why.
    LinkLost(String),
    /// QEMU ended; the text says how.
    VmExited(String),
    /// The host's kernel killed QEMU for want of memory.
    VmStarved(String),
    /// Its health is another.
    HealthChanged(HealthStatus),
    /// Somebody wants the VM to stand still.
    PauseAsked,
    /// Somebody wants it to go on.
    UnpauseAsked,
    /// QEMU did not do what the last of these two asked for.
    PauseFailed,
    /// The guest stands still, to be captured.
    Held,
    /// It does not; the text says why.
    HoldFailed(String),
    /// Somebody wants main to end.
    StopAsked(StopPolicy),
    /// Somebody wants the VM to end.
    KillAsked,
    /// The time of [`Life::deadline`] has come.
    DeadlinePassed,
}

/// What the supervisor has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Write down that the box is in this state.
    Persist(BoxState),
    /// Write down how it fares.
    PersistHealth(HealthStatus),
    /// Let the VM stand still, and write that down.
    Pause,
    /// Let it go on, and write that down.
    Unpause,
    /// Capture the VM.
    Capture,
    /// Let the guest go on: nobody wants it captured any more.
    LetGo,
    /// Say that it was not captured, and why.
    GiveCaptureUp(String),
    /// Ask the guest to stop main.
    AskStop(StopPolicy),
    /// Let the VM go on, then ask the guest to stop main.
    UnpauseAndStop(StopPolicy),
    /// End the VM.
    EndVm,
}

impl Life {
    /// A box whose VM was restored at `now`.
    pub(crate) fn starting(now: Instant) -> Life {
        Life::Starting { give_up_at: now + START }
    }

    /// What others are told.
    pub(crate) fn state(&self) -> BoxState {
        match self {
            Life::Starting { .. } => BoxState::Starting,
            Life::Running => BoxState::Running,
            Life::Paused => BoxState::Paused,
            Life::Stopping { .. } | Life::Leaving { .. } | Life::Ending { .. } => {
                BoxState::Stopping
            }
        }
    }

    /// How main has ended, if that is known.
    pub(crate) fn result(&self) -> Option<&ExitRecord> {
        match self {
            // Why it was killed is told in the guest's last word.
            Life::Leaving { exit, was: Was::Running, .. }
                if exit.status == ExitStatus::Signal(Signal::KILL) =>
            {
                None
            }
            Life::Leaving { exit, .. } | Life::Ending { exit } => {
                Some(exit).filter(|exit| exit.reason == ExitReason::Exited)
            }
            _ => None,
        }
    }

    /// When [`Event::DeadlinePassed`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Life::Starting { give_up_at: at }
            | Life::Stopping { kill_at: at }
            | Life::Leaving { kill_at: at, .. } => Some(*at),
            Life::Running | Life::Paused | Life::Ending { .. } => None,
        }
    }

    /// Takes an event at `now`, in a box whose disk is kept or not.
    pub(crate) fn take(self, event: Event, after: AfterExit, now: Instant) -> (Life, Action) {
        match (self, event) {
            // The result stands: nothing moves it any more.
            (life @ Life::Ending { .. }, _) => (life, Action::None),

            // Captured is what still runs when its guest stands still.
            (Life::Running, Event::Held) => (Life::Running, Action::Capture),
            (life, Event::Held) => (life, Action::LetGo),
            (life, Event::HoldFailed(why)) => (life, Action::GiveCaptureUp(why)),

            // Only what runs has a health.
            (Life::Running, Event::HealthChanged(health)) => {
                (Life::Running, Action::PersistHealth(health))
            }
            (life, Event::HealthChanged(_)) => (life, Action::None),

            // Starting -- MainStarted --> Running
            (Life::Starting { .. }, Event::MainStarted) => {
                (Life::Running, Action::Persist(BoxState::Running))
            }
            // Starting -- StopAsked --> Stopping: the guest holds the signal until main exists.
            (Life::Starting { .. } | Life::Running, Event::StopAsked(policy)) => {
                (Life::Stopping { kill_at: stop_deadline(policy, now) }, Action::AskStop(policy))
            }
            // Paused -- StopAsked --> Stopping: what stands still can't end.
            (Life::Paused, Event::StopAsked(policy)) => {
                let kill_at = stop_deadline(policy, now);
                (Life::Stopping { kill_at }, Action::UnpauseAndStop(policy))
            }
            // Running -- PauseAsked --> Paused -- UnpauseAsked --> Running
            (Life::Running, Event::PauseAsked) => (Life::Paused, Action::Pause),
            (Life::Paused, Event::UnpauseAsked) => (Life::Running, Action::Unpause),
            // Each of them back, when QEMU did not do it.
            (Life::Paused, Event::PauseFailed) => (Life::Running, Action::None),
            (Life::Running, Event::PauseFailed) => (Life::Paused, Action::None),
            (life, Event::PauseAsked | Event::UnpauseAsked | Event::PauseFailed) => {
                (life, Action::None)
            }

            // A second stop can only shorten the time that is left.
            (Life::Stopping { kill_at }, Event::StopAsked(policy)) => {
                let kill_at = kill_at.min(stop_deadline(policy, now));
                (Life::Stopping { kill_at }, Action::AskStop(policy))
            }
            // -- MainRefused, StartFailed --> Ending
            (_, Event::MainRefused(refusal, reason)) => {
                ending(ExitReason::Refused, refusal.shell_code(), Some(reason))
            }
            (_, Event::StartFailed(reason)) => ending(ExitReason::FailedToStart, 125, Some(reason)),

            // -- MainEnded --> Leaving, or Ending where there is no disk to care for
            (
                life @ (Life::Starting { .. }
                | Life::Running
                | Life::Paused
                | Life::Stopping { .. }),
                Event::MainEnded(status),
            ) => {
                let exit = exited(status);
                let was = match life {
                    Life::Stopping { .. } => Was::Stopping,
                    _ => Was::Running,
                };
                match (after, was, status) {
                    // Who killed it is told in the guest's last word, which is on its way.
                    (AfterExit::Remove, Was::Running, ExitStatus::Signal(Signal::KILL)) => {
                        let kill_at = now + LAST_WORD;
                        let leaving = Life::Leaving { exit, was, kill_at };
                        (leaving, Action::Persist(BoxState::Stopping))
                    }
                    (AfterExit::Remove, ..) => (Life::Ending { exit }, Action::EndVm),
                    (AfterExit::Keep, ..) => {
                        let leaving = Life::Leaving { exit, was, kill_at: now + LEAVING };
                        (leaving, Action::Persist(BoxState::Stopping))
                    }
                }
            }
            // Leaving -- GuestLeft, and whatever else comes --> Ending, with main's result
            (Life::Leaving { mut exit, was, kill_at }, event) => {
                let trouble = match event {
                    Event::GuestLeft(Left { flush_error, memory }) => {
                        let killed = exit.status == ExitStatus::Signal(Signal::KILL);
                        if killed && was == Was::Running && memory == Memory::Short {
                            exit.reason = ExitReason::OutOfMemory;
                        }
                        flush_error.map(|error| format!("flushing its disk: {error}"))
                    }
                    Event::DeadlinePassed if after == AfterExit::Remove => None,
                    Event::VmExited(how) | Event::VmStarved(how) => {
                        Some(format!("its disk may not be flushed: {how}"))
                    }
                    Event::LinkLost(why) => Some(format!("its disk may not be flushed: {why}")),
                    Event::KillAsked => Some("its disk may not be flushed: killed".to_owned()),
                    Event::DeadlinePassed => {
                        Some("its disk may not be flushed: the guest took too long".to_owned())
                    }
                    _ => return (Life::Leaving { exit, was, kill_at }, Action::None),
                };
                exit.message = trouble;
                (Life::Ending { exit }, Action::EndVm)
            }

            // -- VmExited, LinkLost, KillAsked, DeadlinePassed --> Ending, main's result unknown
            (
                Life::Starting { .. },
                Event::VmExited(how) | Event::VmStarved(how) | Event::LinkLost(how),
            ) => ending(ExitReason::FailedToStart, 125, Some(how)),
            (_, Event::VmStarved(how)) => {
                ending(ExitReason::HostOutOfMemory, 128 + Signal::KILL.number(), Some(how))
            }
            (_, Event::VmExited(how) | Event::LinkLost(how)) => {
                ending(ExitReason::VmDied, ExitStatus::Unknown.shell_code(), Some(how))
            }
            (Life::Starting { .. }, Event::DeadlinePassed) => {
                let why = format!("the guest was not ready within {} s", START.as_secs());
                ending(ExitReason::FailedToStart, 125, Some(why))
            }
            (Life::Starting { .. }, Event::KillAsked) => {
                ending(ExitReason::FailedToStart, 125, Some("killed while starting".to_owned()))
            }
            (_, Event::KillAsked) => ending(ExitReason::Killed, 128 + Signal::KILL.number(), None),
            (_, Event::DeadlinePassed) => {
                let why = "the guest did not end main in time; the VM was killed".to_owned();
                ending(ExitReason::Killed, 128 + Signal::KILL.number(), Some(why))
            }

            // Main exists now; that it is to end stands.
            (life @ Life::Stopping { .. }, Event::MainStarted) => (life, Action::None),
            (life, Event::MainStarted | Event::GuestLeft(_)) => (life, Action::None),
        }
    }
}

fn stop_deadline(policy: StopPolicy, now: Instant) -> Instant {
    // A year is for ever, and does not overflow the clock.
    let grace = Duration::from_millis(policy.grace_ms).min(Duration::from_secs(31_536_000));
    now + grace + BEYOND_GRACE
}

fn exited(status: ExitStatus) -> ExitRecord {
    ExitRecord { status, reason: ExitReason::Exited, code: status.shell_code(), message: None }
}

fn ending(reason: ExitReason, code: u8, message: Option<String>) -> (Life, Action) {
    let exit = ExitRecord { status: ExitStatus::Unknown, reason, code, message };
    (Life::Ending { exit }, Action::EndVm)
}

#[cfg(test)]
mod tests;
