//! How a box fares, as its health check has it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The health of a box that is checked (contract H9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check has succeeded yet, nor failed often enough.
    Starting,
    /// The last checks that counted succeeded.
    Healthy,
    /// As many in a row as it takes have failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for HealthStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Starting, Self::Healthy, Self::Unhealthy];
        let found = all.into_iter().find(|status| status.word() == text);
        found.ok_or_else(|| format!("'{text}' is no health: starting, healthy or unhealthy"))
    }
}
