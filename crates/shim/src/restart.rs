//! Whether a box that has ended is started again, and when: Docker's rules, as policy alone. The
//! [supervisor](crate::supervisor) asks at the end of each run.

use std::time::Duration;

use boxwood_state::ExitRecord;
use boxwood_types::{ExitReason, RestartPolicy};

/// Docker's first wait.
const FIRST: Duration = Duration::from_millis(100);
/// Docker's longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// After so long a run the waits begin anew.
const LONG_RUN: Duration = Duration::from_secs(10);

/// Whether somebody wanted the box to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It was stopped, and stays so whatever the policy.
    Stopped,
    /// It was killed; the same.
    Killed,
    /// Nobody did.
    Running,
}

/// The waits between the runs of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackOff {
    /// The last one; `None`: the next is the first.
    last: Option<Duration>,
    restarts: u32,
}

impl BackOff {
    /// What comes after a run that took `ran` and ended like this: a wait and another run, or
    /// nothing.
    pub(crate) fn after(
        &mut self,
        policy: RestartPolicy,
        exit: &ExitRecord,
        wanted: Wanted,
        ran: Duration,
    ) -> Option<Duration> {
        if ran >= LONG_RUN {
            self.last = None;
        }
        let wait = self.last.map_or(FIRST, |last| (last * 2).min(LONGEST));
        let never_ran = matches!(exit.reason, ExitReason::FailedToStart | ExitReason::Refused);
        let again = match policy {
            _ if wanted != Wanted::Running || never_ran => false,
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { max } => {
                exit.code != 0 && max.is_none_or(|max| self.restarts < max.get())
            }
        };
        if !again {
            return None;
        }
        self.last = Some(wait);
        self.restarts += 1;
        Some(wait)
    }

    /// How many times the box was started again.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxwood_types::ExitStatus;

    fn ended(reason: ExitReason, code: u8) -> ExitRecord {
        ExitRecord { status: ExitStatus::Unknown, reason, code, message: None }
    }

    #[test]
    fn h10_each_policy_restarts_what_docker_restarts() {
        let failed = ended(ExitReason::Exited, 3);
        let done = ended(ExitReason::Exited, 0);
        let died = ended(ExitReason::VmDied, 255);
        let refused = ended(ExitReason::Refused, 127);
        let never = ended(ExitReason::FailedToStart, 125);
        let on_failure = RestartPolicy::OnFailure { max: None };
        for (policy, exit, wanted, again) in [
            (RestartPolicy::No, &failed, Wanted::Running, false),
            (on_failure, &failed, Wanted::Running, true),
            (on_failure, &died, Wanted::Running, true),
            (on_failure, &done, Wanted::Running, false),
            (on_failure, &failed, Wanted::Stopped, false),
            (RestartPolicy::Always, &done, Wanted::Running, true),
            (RestartPolicy::Always, &failed, Wanted::Killed, false),
            (RestartPolicy::Always, &refused, Wanted::Running, false),
            (RestartPolicy::Always, &never, Wanted::Running, false),
            (RestartPolicy::UnlessStopped, &done, Wanted::Running, true),
            (RestartPolicy::UnlessStopped, &done, Wanted::Stopped, false),
        ] {
            let mut back_off = BackOff::default();
            let next = back_off.after(policy, exit, wanted, Duration::ZERO);
            assert_eq!(next, again.then_some(FIRST), "{policy} {exit:?} {wanted:?}");
            assert_eq!(back_off.restarts(), u32::from(again));
        }
    }

    #[test]
    fn h10_waits_double_to_a_minute_and_begin_anew_after_a_long_run() {
        let mut back_off = BackOff::default();
        let failed = ended(ExitReason::Exited, 1);
        let mut next = |ran| {
            back_off.after(
                RestartPolicy::Always,
                &failed,
                Wanted::Running,
                Duration::from_secs(ran),
            )
        };
        let millis: Vec<u128> = (0..12).map(|_| next(9).unwrap().as_millis()).collect();
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000];
        assert_eq!(millis[..11], expected);
        assert_eq!(millis[11], 60_000);
        assert_eq!(next(10), Some(FIRST));
        assert_eq!(next(0), Some(FIRST * 2));
    }

    #[test]
    fn h10_a_limit_of_retries_holds_for_the_life_of_the_shim() {
        let mut back_off = BackOff::default();
        let two = "on-failure:2".parse().unwrap();
        let failed = ended(ExitReason::Exited, 1);
        let mut next = || back_off.after(two, &failed, Wanted::Running, LONG_RUN).is_some();
        assert_eq!([next(), next(), next()], [true, true, false]);
    }
}
