//! A step of the guest that the kernel refused, for the host's error message.
//!
//! Every module returns this one: the host shows the step and the kernel's word for it, and no
//! caller in here decides anything by the kind of a fault.

use std::borrow::Cow;

use rustix::io::Errno;

/// A failed step: what was tried, on what, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("can't {step}")]
pub(crate) struct Fault {
    /// What was tried, as it follows "can't": `mount /dev/vda at /image`.
    pub(crate) step: Cow<'static, str>,
    /// The kernel's answer.
    #[source]
    pub(crate) errno: Errno,
}

impl Fault {
    /// A fault that no system call reported.
    pub(crate) fn new(step: impl Into<Cow<'static, str>>, errno: Errno) -> Self {
        Fault { step: step.into(), errno }
    }

    /// The kernel's answer in words, as the host shows it.
    pub(crate) fn reason(&self) -> String {
        reason(self.errno)
    }
}

/// An errno in words.
pub(crate) fn reason(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    // std appends its own "(os error 2)"; people are shown the words.
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Gives a system call's error the step it belongs to.
pub(crate) trait Step<T> {
    /// For steps that always have the same object.
    fn step(self, step: &'static str) -> Result<T, Fault>;
    /// For steps with a path or number in them; built only on failure.
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Fault>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, step: &'static str) -> Result<T, Fault> {
        self.map_err(|errno| Fault { step: Cow::Borrowed(step), errno })
    }

    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Fault> {
        self.map_err(|errno| Fault { step: Cow::Owned(step()), errno })
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, step: &'static str) -> Result<T, Fault> {
        self.map_err(|error| Fault { step: Cow::Borrowed(step), errno: errno_of(&error) })
    }

    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Fault> {
        self.map_err(|error| Fault { step: Cow::Owned(step()), errno: errno_of(&error) })
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_and_why_once() {
        let fault = Err::<(), _>(Errno::NOENT).step("mount /dev/vda at /image").unwrap_err();
        assert_eq!(fault.to_string(), "can't mount /dev/vda at /image");
        assert_eq!(fault.reason(), "No such file or directory");
    }
}
