//! How a box's health is checked: the flags that `run`, `create` and `update` share, as Docker has them.

use anyhow::bail;
use boxwood_runtime::HealthWishes;

use crate::times;

/// The health check as its user describes it.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthFlags {
    /// Check the box's health by this line for its shell: what ends with 0 is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between checks, for example 30s
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_interval: Option<String>,
    /// What a check may take
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_timeout: Option<String>,
    /// Failures in a row until the box is unhealthy
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    health_retries: Option<i64>,
    /// How long after the start failures do not count
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_start_period: Option<String>,
    /// Time between checks in that time
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_start_interval: Option<String>,
    /// Check nothing, not even that the box is alive
    #[arg(long, visible_alias = "no-health-check")]
    no_healthcheck: bool,
}

impl HealthFlags {
    pub(crate) fn into_wishes(self) -> anyhow::Result<HealthWishes> {
        let retries = match self.health_retries {
            None | Some(0) => None,
            Some(count) => match u32::try_from(count) {
                Ok(count) => Some(count),
                Err(_) if count < 0 => bail!("--health-retries cannot be negative"),
                Err(_) => bail!("--health-retries can't be {count}: it is too large"),
            },
        };
        let wishes = HealthWishes {
            disabled: self.no_healthcheck,
            command: self.health_cmd.filter(|command| !command.is_empty()),
            interval_ms: milliseconds("--health-interval", self.health_interval)?,
            timeout_ms: milliseconds("--health-timeout", self.health_timeout)?,
            start_period_ms: milliseconds("--health-start-period", self.health_start_period)?,
            start_interval_ms: milliseconds("--health-start-interval", self.health_start_interval)?,
            retries,
        };
        wishes.check()?;
        Ok(wishes)
    }
}

/// As Docker has it: 0 is not said, and what is said is at least a millisecond.
fn milliseconds(flag: &str, text: Option<String>) -> anyhow::Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    if text.starts_with('-') {
        bail!("{flag} cannot be negative");
    }
    match times::duration(&text) {
        Ok(0) => Ok(None),
        Ok(nanoseconds) if nanoseconds < 1_000_000 => bail!("{flag} cannot be less than 1ms"),
        Ok(nanoseconds) => Ok(Some(nanoseconds / 1_000_000)),
        Err(why) => bail!("{flag}: {why}"),
    }
}
