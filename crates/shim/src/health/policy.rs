//! What the results of probes mean: Docker's rules, as policy alone. No I/O, no clock.

use std::time::Duration;

use boxwood_state::{Health, HealthSpec, ProbeResult};
use boxwood_types::HealthStatus;

/// Results that are kept, as Docker does.
const KEPT: usize = 5;

/// The health of one run of a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Course {
    health: Health,
}

impl Course {
    pub(super) fn new() -> Self {
        let (status, failing_streak, log) = (HealthStatus::Starting, 0, Vec::new());
        Course { health: Health { status, failing_streak, log } }
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Whether the last probe said that all is well.
    pub(super) fn is_well(&self) -> bool {
        (self.health.status, self.health.failing_streak) == (HealthStatus::Healthy, 0)
    }

    /// How long to wait for the next probe, so long after main's start.
    pub(super) fn interval(&self, spec: &HealthSpec, since_start: Duration) -> Duration {
        let starting = self.is_in_start_period(spec, since_start);
        Duration::from_millis(if starting { spec.start_interval_ms } else { spec.interval_ms })
    }

    /// Takes the result of a probe that began so long after main's start. Returns the status if it is
    /// another now.
    pub(super) fn take(
        &mut self,
        result: ProbeResult,
        spec: &HealthSpec,
        since_start: Duration,
    ) -> Option<HealthStatus> {
        let before = self.health.status;
        if result.exit_code == 0 {
            self.health.failing_streak = 0;
            self.health.status = HealthStatus::Healthy;
        } else if !self.is_in_start_period(spec, since_start) {
            self.health.failing_streak += 1;
            if self.health.failing_streak >= spec.retries {
                self.health.status = HealthStatus::Unhealthy;
            }
        }
        self.health.log.push(result);
        let over = self.health.log.len().saturating_sub(KEPT);
        self.health.log.drain(..over);
        (self.health.status != before).then_some(self.health.status)
    }

    fn is_in_start_period(&self, spec: &HealthSpec, since_start: Duration) -> bool {
        let period = Duration::from_millis(spec.start_period_ms);
        self.health.status == HealthStatus::Starting && since_start < period
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxwood_state::Probe;
    use boxwood_state::clock::Moment;

    fn spec() -> HealthSpec {
        HealthSpec {
            probe: Probe::Liveness,
            interval_ms: 30_000,
            timeout_ms: 10_000,
            start_period_ms: 60_000,
            start_interval_ms: 5_000,
            retries: 3,
        }
    }

    fn result(exit_code: i32) -> ProbeResult {
        ProbeResult { start: Moment(0), end: Moment(1), exit_code, output: String::new() }
    }

    /// Each step: seconds since the start, the probe's code; then the status and the streak.
    fn walk(steps: &[(u64, i32, HealthStatus, u32)]) {
        let mut course = Course::new();
        for (at, (seconds, code, status, streak)) in steps.iter().enumerate() {
            let before = course.health.status;
            let change = course.take(result(*code), &spec(), Duration::from_secs(*seconds));
            assert_eq!(
                (course.health.status, course.health.failing_streak),
                (*status, *streak),
                "{at}"
            );
            assert_eq!(change, (before != *status).then_some(*status), "{at}");
        }
        assert!(course.health.log.len() <= KEPT);
    }

    #[test]
    fn h9_health_goes_both_ways_with_dockers_retries() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        walk(&[(5, 0, Healthy, 0), (35, 1, Healthy, 1), (65, 0, Healthy, 0)]);
        // In the start period failures do not count, until a first success.
        walk(&[(5, 1, Starting, 0), (59, -1, Starting, 0), (61, 1, Starting, 1)]);
        walk(&[(5, 0, Healthy, 0), (9, 1, Healthy, 1), (20, 1, Healthy, 2), (30, 1, Unhealthy, 3)]);
        walk(&[
            (61, 1, Starting, 1),
            (91, 1, Starting, 2),
            (121, -1, Unhealthy, 3),
            (151, 2, Unhealthy, 4),
            (181, 0, Healthy, 0),
            (211, 1, Healthy, 1),
            (241, 1, Healthy, 2),
            (271, 1, Unhealthy, 3),
        ]);
    }

    #[test]
    fn h9_probes_come_faster_while_a_box_starts() {
        let mut course = Course::new();
        let wait = |course: &Course, seconds| {
            course.interval(&spec(), Duration::from_secs(seconds)).as_secs()
        };
        assert_eq!((wait(&course, 1), wait(&course, 61)), (5, 30));
        course.take(result(0), &spec(), Duration::from_secs(5));
        assert_eq!(wait(&course, 6), 30);
    }
}
