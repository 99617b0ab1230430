//! Which accelerator runs the guests: hardware virtualization (KVM) where it is proven fast, software
//! emulation (TCG) elsewhere. Called by the runtime before it looks for an engine and a template.
//!
//! That `/dev/kvm` opens proves nothing: there are hosts where it is a software back end, on which
//! a guest's kernel runs at 2.3 million instructions per second and stock kernels die. So the choice
//! is a measurement, made once per boot of the host.

mod kvm;
pub(crate) mod sys;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cache;
use crate::error::Error;

/// What executes a guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualization.
    Kvm,
    /// QEMU's emulator.
    Tcg,
}

/// What the user wants, in `BOXWOOD_ACCEL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// KVM if it is proven fast, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG, without a look at KVM.
    Tcg,
}

/// What is known about KVM on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Nobody asked.
    NotTried,
    /// There is no `/dev/kvm`.
    Absent,
    /// `/dev/kvm` may not be opened by this user.
    NoPermission,
    /// It opens and does not work.
    Broken {
        /// What failed and how.
        reason: String,
    },
    /// It works, as slow as an emulator or slower.
    Slow {
        /// Million instructions per second in a guest's kernel mode.
        mips: f64,
    },
    /// It is what it seems to be.
    Fast {
        /// Million instructions per second in a guest's kernel mode.
        mips: f64,
    },
}

/// The accelerator to use, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Use this one.
    pub accelerator: Accelerator,
    /// What is known about KVM.
    pub kvm: Finding,
    /// What the user wants.
    pub choice: Choice,
}

/// The slow back end's speed, measured, in million instructions per second.
const SLOW_BACK_END_MIPS: f64 = 2.3;
/// KVM has to be this much faster than the slow back end.
const FASTER: f64 = 100.0;
const CACHED: &str = "kvm";

/// Chooses the accelerator: by `BOXWOOD_ACCEL`, or by what a measurement says. The first call after
/// the host's boot takes up to 50 ms, later ones read the verdict from `cache_dir`.
///
/// # Errors
/// When the variable is no choice, or demands KVM where that is not proven fast.
pub fn probe(cache_dir: &Path) -> Result<Verdict, Error> {
    Choice::from_environment()?.decide(|| finding(cache_dir))
}

impl Choice {
    /// What `BOXWOOD_ACCEL` says.
    ///
    /// # Errors
    /// When it is neither empty nor one of auto, kvm and tcg.
    pub fn from_environment() -> Result<Self, Error> {
        match std::env::var_os("BOXWOOD_ACCEL") {
            None => Ok(Choice::Auto),
            Some(text) => Self::parse(&text.to_string_lossy()),
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "" | "auto" => Ok(Choice::Auto),
            "kvm" => Ok(Choice::Kvm),
            "tcg" => Ok(Choice::Tcg),
            other => Err(Error::BadAccelerator(other.chars().take(40).collect())),
        }
    }

    /// The verdict, with KVM looked at only if that can matter.
    fn decide(self, find: impl FnOnce() -> Finding) -> Result<Verdict, Error> {
        let kvm = if self == Choice::Tcg { Finding::NotTried } else { find() };
        let accelerator = match (self, &kvm) {
            (Choice::Tcg, _) => Accelerator::Tcg,
            (_, Finding::Fast { .. }) => Accelerator::Kvm,
            (Choice::Auto, _) => Accelerator::Tcg,
            (Choice::Kvm, _) => return Err(Error::KvmRefused(kvm)),
        };
        Ok(Verdict { accelerator, kvm, choice: self })
    }
}

fn finding(cache_dir: &Path) -> Finding {
    // Looked at each time: permission can change without a boot, and costs nothing to find out.
    let device = match kvm::open() {
        Ok(device) => device,
        Err(finding) => return finding,
    };
    if let Some(known) = cache::get_this_boot(cache_dir, CACHED) {
        return known;
    }
    let finding = match kvm::measure(&device) {
        Ok(mips) if mips >= SLOW_BACK_END_MIPS * FASTER => Finding::Fast { mips },
        Ok(mips) => Finding::Slow { mips },
        Err(reason) => Finding::Broken { reason },
    };
    cache::put_this_boot(cache_dir, CACHED, &finding);
    finding
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::NotTried => f.write_str("KVM was not looked at"),
            Finding::Absent => f.write_str("there is no /dev/kvm"),
            Finding::NoPermission => f.write_str("/dev/kvm may not be opened by this user"),
            Finding::Broken { reason } => write!(f, "/dev/kvm does not work: {reason}"),
            Finding::Slow { mips } => write!(
                f,
                "/dev/kvm is too slow: {mips:.1} million instructions per second in kernel mode, \
                 where hardware has thousands"
            ),
            Finding::Fast { mips } => {
                write!(f, "/dev/kvm runs {mips:.0} million instructions per second in kernel mode")
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.choice {
            Choice::Auto => write!(f, "{}: {}", self.accelerator, self.kvm),
            _ => write!(f, "{}: BOXWOOD_ACCEL says so", self.accelerator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(choice: Choice, finding: Finding) -> Result<Accelerator, Error> {
        choice.decide(|| finding).map(|verdict| verdict.accelerator)
    }

    #[test]
    fn kvm_is_taken_only_when_proven_fast() {
        let fast = Finding::Fast { mips: 4000.0 };
        assert_eq!(verdict(Choice::Auto, fast.clone()).unwrap(), Accelerator::Kvm);
        assert_eq!(verdict(Choice::Kvm, fast).unwrap(), Accelerator::Kvm);
        let others = [
            Finding::Absent,
            Finding::NoPermission,
            Finding::Broken { reason: "no".into() },
            Finding::Slow { mips: 2.3 },
        ];
        for finding in others {
            assert_eq!(verdict(Choice::Auto, finding.clone()).unwrap(), Accelerator::Tcg);
            let refused = verdict(Choice::Kvm, finding.clone()).unwrap_err().to_string();
            assert!(refused.contains(&finding.to_string()), "{refused}");
        }
    }

    #[test]
    fn tcg_by_choice_never_looks_at_kvm() {
        let verdict = Choice::Tcg.decide(|| panic!("looked")).unwrap();
        assert_eq!(verdict.kvm, Finding::NotTried);
    }

    #[test]
    fn h13_a_choice_that_is_none_is_named_with_the_words_there_are() {
        let error = Choice::parse("hvf").unwrap_err().to_string();
        assert_eq!(error, "BOXWOOD_ACCEL is 'hvf': set it to auto, kvm or tcg");
        assert_eq!(Choice::parse("").unwrap(), Choice::Auto);
    }

    #[test]
    fn kvm_of_this_host_is_judged_quickly_and_the_verdict_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let start = std::time::Instant::now();
        let first = finding(dir.path());
        let took = start.elapsed();
        assert!(took.as_millis() < 1500, "{took:?}");
        if matches!(first, Finding::Slow { .. } | Finding::Fast { .. } | Finding::Broken { .. }) {
            assert_eq!(cache::get_this_boot::<Finding>(dir.path(), CACHED), Some(first.clone()));
        }
        assert_eq!(finding(dir.path()), first);
        eprintln!("{first} (found in {took:?})");
    }
}
