//! Named steps at which a test can end a process; see the state crate's, which reads what is wished of them.

/// This step has been reached.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn failpoint(_step: &str) {}

/// This step has been reached.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(step: &str) {
    fail::fail_point!(step);
}
