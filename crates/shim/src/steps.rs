//! How long the steps of a start took, for people who measure.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Steps and the microseconds from the shim's beginning to their end.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    began: Instant,
    ended: Rc<RefCell<Vec<(String, u64)>>>,
}

impl Steps {
    pub(crate) fn since(began: Instant) -> Self {
        Steps { began, ended: Rc::default() }
    }

    /// This step has just ended.
    pub(crate) fn mark(&self, step: &str) {
        self.mark_at(step, Instant::now());
    }

    /// This step ended then.
    pub(crate) fn mark_at(&self, step: &str, when: Instant) {
        let elapsed = when.saturating_duration_since(self.began);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.ended.borrow_mut().push((step.to_owned(), micros));
    }

    /// The time from the beginning to now.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        self.ended.borrow().clone()
    }
}
