//! When a box that has ended is started again without anybody asking: Docker's policies.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is done when a box has ended by itself (contract H10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again when it failed.
    OnFailure {
        /// So many times at most; `None`: without end.
        max: Option<NonZeroU32>,
    },
    /// It is started again.
    Always,
    /// The same; it differs where a daemon looks at boxes that were stopped before it began.
    UnlessStopped,
}

/// Why a text is no policy: in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestartPolicyError {
    /// `:3`
    #[error("invalid restart policy format: no policy provided before colon")]
    Nameless,
    /// `on-failure:x`
    #[error("invalid restart policy format: maximum retry count must be an integer")]
    BadCount,
    /// `always:3`
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'")]
    CountOfOther,
    /// `on-failure:-1`
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    Negative,
    /// `sometimes`
    #[error(
        "invalid restart policy: unknown policy '{0}'; \
         use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown(String),
}

impl FromStr for RestartPolicy {
    type Err = RestartPolicyError;

    fn from_str(text: &str) -> Result<Self, RestartPolicyError> {
        let (name, count) = match text.split_once(':') {
            Some(("", _)) => return Err(RestartPolicyError::Nameless),
            Some((name, count)) => (name, count),
            None => (text, ""),
        };
        let count: i32 = match count {
            "" => 0,
            count => count.parse().map_err(|_| RestartPolicyError::BadCount)?,
        };
        let policy = match name {
            "" | "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => {
                let max = u32::try_from(count).map_err(|_| RestartPolicyError::Negative)?;
                return Ok(RestartPolicy::OnFailure { max: NonZeroU32::new(max) });
            }
            _ => return Err(RestartPolicyError::Unknown(name.chars().take(40).collect())),
        };
        if count == 0 { Ok(policy) } else { Err(RestartPolicyError::CountOfOther) }
    }
}

impl RestartPolicy {
    /// Docker's name of it, without the count.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure { .. } => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// How many times at most; 0 is without end.
    pub fn maximum_retry_count(self) -> u32 {
        match self {
            Self::OnFailure { max: Some(max) } => max.get(),
            _ => 0,
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.maximum_retry_count() {
            0 => f.write_str(self.name()),
            count => write!(f, "{}:{count}", self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h10_policies_are_read_as_docker_reads_them() {
        let three = RestartPolicy::OnFailure { max: NonZeroU32::new(3) };
        for (text, policy) in [
            ("no", RestartPolicy::No),
            ("", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("always:0", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure { max: None }),
            ("on-failure:0", RestartPolicy::OnFailure { max: None }),
            ("on-failure:3", three),
        ] {
            assert_eq!(text.parse(), Ok(policy), "{text}");
        }
        assert_eq!(three.to_string(), "on-failure:3");
        assert_eq!(RestartPolicy::Always.to_string(), "always");
    }

    #[test]
    fn h13_what_is_no_policy_is_refused_in_dockers_words() {
        for (text, words) in [
            (":3", "no policy provided before colon"),
            ("on-failure:x", "maximum retry count must be an integer"),
            ("on-failure:-1", "maximum retry count cannot be negative"),
            ("always:3", "maximum retry count can only be used with 'on-failure'"),
            ("sometimes", "unknown policy 'sometimes'"),
        ] {
            let error = text.parse::<RestartPolicy>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
