//! The signs of life that a guest gives by itself. Each is taken where it arrives, and sets the alarm anew: the
//! [check](crate::health) wakes only for one that is late.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use boxwood_state::clock::Moment;
use boxwood_state::metrics::Counter;
use boxwood_state::{HealthSpec, ProbeResult};
use tokio::sync::oneshot;

use crate::health::alarm::Alarm;
use crate::health::policy::Course;
use crate::link::Link;
use crate::questions::{Beats, Questions, Unanswered};

/// Signs that are counted together: to write a count takes as long as half of all else that is done for one.
const COUNTED: u64 = 8;

/// A guest that is well, as long as this lives.
pub(super) struct Pulse {
    hearing: Rc<Hearing>,
    _beats: Beats,
}

/// What hears the signs.
struct Hearing {
    link: Link,
    alarm: Rc<Alarm>,
    course: Rc<RefCell<Course>>,
    spec: HealthSpec,
    /// What comes before this much too early says nothing about now.
    from: Cell<Instant>,
    /// Who asks for one that is late.
    asking: RefCell<Option<oneshot::Sender<()>>>,
    /// Signs that were not counted yet.
    uncounted: Cell<u64>,
}

impl Pulse {
    /// Begins with a guest that was well a moment ago.
    pub(super) fn begin(
        (link, questions): (&Link, &Questions),
        (alarm, course): (&Rc<Alarm>, &Rc<RefCell<Course>>),
        spec: &HealthSpec,
    ) -> Result<Pulse, Unanswered> {
        let hearing = Rc::new(Hearing {
            link: link.clone(),
            alarm: alarm.clone(),
            course: course.clone(),
            spec: spec.clone(),
            from: Cell::new(Instant::now()),
            asking: RefCell::default(),
            uncounted: Cell::new(0),
        });
        hearing.expect();
        let ear = hearing.clone();
        let beats = questions.beats(hearing.interval(), move || ear.hear())?;
        Ok(Pulse { hearing, _beats: beats })
    }

    /// Expects another.
    pub(super) fn expect(&self) {
        self.hearing.expect();
    }

    /// What tells that one has come, instead of the alarm.
    pub(super) fn ask(&self) -> oneshot::Receiver<()> {
        let (sender, given) = oneshot::channel();
        self.hearing.asking.replace(Some(sender));
        given
    }
}

impl Hearing {
    fn interval(&self) -> Duration {
        Duration::from_millis(self.spec.interval_ms)
    }

    fn next_from(&self) {
        self.from.set(Instant::now() + self.interval() / 2);
    }

    fn expect(&self) {
        self.next_from();
        self.put_off();
    }

    fn put_off(&self) {
        // Where that fails it rings at its old time, and the guest is asked.
        let _ = self.alarm.set(self.interval() + lateness(&self.spec));
    }

    fn hear(&self) {
        if Instant::now() < self.from.get() {
            return;
        }
        self.next_from();
        if let Some(asking) = self.asking.take() {
            let _ = asking.send(());
            return;
        }
        self.uncounted.update(|count| count + 1);
        if self.uncounted.get() >= COUNTED {
            self.count();
        }
        // One like those before is no news.
        self.course.borrow_mut().take(given(), &self.spec, Duration::MAX);
        self.put_off();
    }

    fn count(&self) {
        self.link.counters().add(Counter::HealthProbes, self.uncounted.take());
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.count();
    }
}

/// How late a sign may be before the guest is asked: it may take as long again for its answer.
pub(super) fn lateness(spec: &HealthSpec) -> Duration {
    Duration::from_millis(spec.timeout_ms) / 2
}

/// What is made of a sign that was given.
pub(super) fn given() -> ProbeResult {
    let now = Moment::now();
    ProbeResult { start: now, end: now, exit_code: 0, output: String::new() }
}

#[cfg(test)]
mod tests {
    use boxwood_state::Probe;
    use boxwood_state::metrics::Counters;
    use boxwood_types::HealthStatus;
    use boxwood_wire::frame::CONTROL_PORT;

    use super::*;
    use crate::orders::Orders;
    use crate::questions::Answers;

    #[tokio::test(flavor = "local")]
    async fn h9_a_sign_counts_once_and_not_before_its_time_and_a_late_one_for_who_asks() {
        let link = Link::new(Counters::nowhere().into());
        let control = link.open(CONTROL_PORT).unwrap();
        let questions = Questions::over(Orders::over(control.writer()), Answers::default());
        let (alarm, course) = (Rc::new(Alarm::new().unwrap()), Rc::new(Course::new().into()));
        let spec = HealthSpec {
            probe: Probe::Liveness,
            interval_ms: 600_000,
            timeout_ms: 10_000,
            start_period_ms: 0,
            start_interval_ms: 5_000,
            retries: 3,
        };
        let pulse = Pulse::begin((&link, &questions), (&alarm, &course), &spec).unwrap();
        let flood = || (0..1000).for_each(|_| pulse.hearing.hear());
        let known = || course.borrow().health().log.len();
        flood();
        assert_eq!(known(), 0, "they came too early");
        pulse.hearing.from.set(Instant::now());
        flood();
        assert_eq!((known(), course.borrow().health().status), (1, HealthStatus::Healthy));
        let mut asking = pulse.ask();
        flood();
        assert!(asking.try_recv().is_err());
        pulse.hearing.from.set(Instant::now());
        flood();
        assert!(asking.try_recv().is_ok());
        assert_eq!(known(), 1, "who asks makes a result of it");
    }
}
