//! How a box's health is to be checked: what the user says, then what the image says, then the defaults.
//! Part of `request`; `update` uses it, too.

use boxwood_state::{HealthSpec, Probe, Text};
use serde::Deserialize;

use crate::Error;

/// What a user says about the health check. What is not said is the image's or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthWishes {
    /// There is to be none.
    pub disabled: bool,
    /// A line for the box's shell; what ends with 0 is healthy.
    pub command: Option<String>,
    /// From the end of one probe to the next, in milliseconds.
    pub interval_ms: Option<u64>,
    /// What a probe may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How long failures do not count, in milliseconds.
    pub start_period_ms: Option<u64>,
    /// Instead of the interval in that time, in milliseconds.
    pub start_interval_ms: Option<u64>,
    /// Failures in a row until it is unhealthy.
    pub retries: Option<u32>,
}

/// The check that every box has unless it was told another: the contract's.
fn liveness() -> HealthSpec {
    HealthSpec {
        probe: Probe::Liveness,
        interval_ms: 30_000,
        timeout_ms: 10_000,
        start_period_ms: 60_000,
        start_interval_ms: 5_000,
        retries: 3,
    }
}

/// Docker's defaults.
fn command(test: Vec<Text>) -> HealthSpec {
    HealthSpec {
        probe: Probe::Command { test },
        interval_ms: 30_000,
        timeout_ms: 30_000,
        start_period_ms: 0,
        start_interval_ms: 5_000,
        retries: 3,
    }
}

/// Docker's `Healthcheck` in an image's configuration; times are in nanoseconds, 0 is not said.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OfImage {
    test: Option<Vec<String>>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

impl HealthWishes {
    /// Whether anything was said.
    pub fn is_empty(&self) -> bool {
        *self == HealthWishes::default()
    }

    /// Checks what can be checked before anything is looked up.
    ///
    /// # Errors
    /// What does not go together, in one line.
    pub fn check(&self) -> Result<(), Error> {
        let others = HealthWishes { disabled: false, ..self.clone() };
        if self.disabled && !others.is_empty() {
            return Err(Error::BadHealth(
                "--no-healthcheck conflicts with --health-* options".into(),
            ));
        }
        Ok(())
    }

    /// The check of a new box.
    pub(crate) fn resolve(&self, image: Option<&serde_json::Value>) -> Option<HealthSpec> {
        if self.disabled {
            return None;
        }
        // What an image says wrongly it has not said: it must not keep its boxes from starting.
        let image = image.and_then(|value| serde_json::from_value::<OfImage>(value.clone()).ok());
        let image = image.unwrap_or_default();
        let test = image.test.as_deref().unwrap_or_default();
        let base = match test.first().map(String::as_str) {
            Some("CMD" | "CMD-SHELL") if test.len() > 1 => {
                let said = |nanoseconds: i64| {
                    u64::try_from(nanoseconds)
                        .ok()
                        .filter(|n| *n > 0)
                        .map(|n| n.div_ceil(1_000_000))
                };
                let wishes = HealthWishes {
                    interval_ms: said(image.interval),
                    timeout_ms: said(image.timeout),
                    start_period_ms: said(image.start_period),
                    start_interval_ms: said(image.start_interval),
                    retries: u32::try_from(image.retries).ok().filter(|n| *n > 0),
                    ..HealthWishes::default()
                };
                wishes.over(command(test.iter().map(|word| Text::from(word.as_str())).collect()))
            }
            _ => liveness(),
        };
        Some(self.over(base))
    }

    /// The check of a box that has this one.
    pub(crate) fn change(&self, now: Option<HealthSpec>) -> Option<HealthSpec> {
        match (self.disabled, self.is_empty()) {
            (true, _) => None,
            (false, true) => now,
            (false, false) => Some(self.over(now.unwrap_or_else(liveness))),
        }
    }

    fn over(&self, base: HealthSpec) -> HealthSpec {
        let base = match &self.command {
            Some(line) => {
                let test = vec![Text::from("CMD-SHELL"), Text::from(line.as_str())];
                match base.probe {
                    // Times that were meant for another kind of probe are not this one's.
                    Probe::Liveness => command(test),
                    Probe::Command { .. } => HealthSpec { probe: Probe::Command { test }, ..base },
                }
            }
            None => base,
        };
        HealthSpec {
            interval_ms: self.interval_ms.unwrap_or(base.interval_ms),
            timeout_ms: self.timeout_ms.unwrap_or(base.timeout_ms),
            start_period_ms: self.start_period_ms.unwrap_or(base.start_period_ms),
            start_interval_ms: self.start_interval_ms.unwrap_or(base.start_interval_ms),
            retries: self.retries.unwrap_or(base.retries),
            probe: base.probe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(command: Option<&str>) -> HealthWishes {
        HealthWishes { command: command.map(str::to_owned), ..HealthWishes::default() }
    }

    #[test]
    fn h9_every_box_is_checked_unless_it_was_told_not_to_be() {
        assert_eq!(with(None).resolve(None), Some(liveness()));
        assert_eq!(with(None).resolve(Some(&json!({"Test": ["NONE"]}))), Some(liveness()));
        assert_eq!(with(None).resolve(Some(&json!({"Test": "wrong"}))), Some(liveness()));
        let none = HealthWishes { disabled: true, ..HealthWishes::default() };
        assert_eq!(none.resolve(Some(&json!({"Test": ["CMD", "x"]}))), None);
    }

    #[test]
    fn h9_the_user_comes_before_the_image_and_the_image_before_the_defaults() {
        let image =
            json!({"Test": ["CMD", "check", "-q"], "Interval": 5_000_000_000i64, "Retries": 2});
        let of_image = with(None).resolve(Some(&image)).unwrap();
        assert_eq!(
            (of_image.interval_ms, of_image.timeout_ms, of_image.retries),
            (5000, 30_000, 2)
        );
        let argv: Vec<String> = of_image.probe.argv().unwrap().iter().map(Text::display).collect();
        assert_eq!(argv, ["check", "-q"]);
        let own = HealthWishes { retries: Some(9), ..with(Some("true")) };
        let own = own.resolve(Some(&image)).unwrap();
        assert_eq!((own.interval_ms, own.retries), (5000, 9));
        let argv: Vec<String> = own.probe.argv().unwrap().iter().map(Text::display).collect();
        assert_eq!(argv, ["/bin/sh", "-c", "true"]);
        let plain = with(Some("true")).resolve(None).unwrap();
        assert_eq!((plain.timeout_ms, plain.start_period_ms), (30_000, 0));
    }

    #[test]
    fn h9_a_check_is_changed_where_something_is_said() {
        let wishes = HealthWishes { interval_ms: Some(7), ..HealthWishes::default() };
        assert_eq!(wishes.change(Some(liveness())).unwrap().interval_ms, 7);
        assert_eq!(wishes.change(None).unwrap().timeout_ms, 10_000);
        assert_eq!(with(None).change(None), None);
    }
}
