//! Whether this host can run boxes, and what to do where it can't. Called by the CLI's `doctor`
//! and `setup`.

mod checks;
mod vm;

use std::path::Path;

use boxwood_vmm::Templates;
use serde::{Deserialize, Serialize};

use crate::sources::Sources;
use crate::store::Stores;

/// What the doctor looks at.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
    /// The home, which may not exist yet.
    pub home: &'a Path,
    /// Where the kernel, the initramfs and the empty disk are.
    pub stores: &'a Stores,
    /// Which of them the user wants.
    pub sources: &'a Sources,
}

/// Where a VM's things are: for the checks that need more than a look at files.
#[derive(Clone, Copy, Debug)]
pub struct VmPlaces<'a> {
    /// The templates.
    pub templates: &'a Templates,
    /// What was measured since the host booted.
    pub cache: &'a Path,
}

/// The findings, one for each thing a box needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// In the order they are shown.
    pub checks: Vec<Check>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: one or two words.
    pub name: String,
    /// Whether it is good.
    pub status: Status,
    /// What was found, in one line.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it must be.
    Ok,
    /// Boxes run, but something could be better or is yet to be done.
    Warn,
    /// No box can run.
    Fail,
}

/// How a report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// With the colours of a terminal.
    Colour,
}

impl Check {
    /// All is well.
    pub fn ok(name: &str, detail: impl Into<String>) -> Self {
        Check { name: name.to_owned(), status: Status::Ok, detail: detail.into(), remedy: None }
    }

    /// Boxes run, and the user should know this.
    pub fn warn(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Check { name: name.to_owned(), status: Status::Warn, detail: detail.into(), remedy }
    }

    /// No box runs until the user does what the remedy says.
    pub fn fail(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Check { name: name.to_owned(), status: Status::Fail, detail: detail.into(), remedy }
    }
}

impl Report {
    /// Looks at the host and at files. Downloads, builds and measures nothing.
    pub fn examine(patient: &Patient<'_>) -> Self {
        let mut checks = vec![vm::qemu_on_path()];
        checks.extend(checks::all(patient));
        Report { checks }
    }

    /// Looks at everything, the accelerator, QEMU and the template too. Downloads and builds
    /// nothing; what it measures is kept in the cache. Blocks for up to a second the first time.
    pub async fn examine_all(patient: &Patient<'_>, places: &VmPlaces<'_>) -> Self {
        let mut checks = vm::all(patient, places).await;
        checks.extend(checks::all(patient));
        Report { checks }
    }

    /// Whether a box can be started: nothing failed.
    pub fn can_run(&self) -> bool {
        self.checks.iter().all(|check| check.status != Status::Fail)
    }

    /// A table for people, with remedies beneath their findings.
    pub fn render(&self, style: Style) -> String {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for check in &self.checks {
            let status = check.status.render(style);
            text.push_str(&format!("{status}  {:width$}  {}\n", check.name, check.detail));
            if let Some(remedy) = &check.remedy {
                text.push_str(&format!("      {:width$}  -> {remedy}\n", ""));
            }
        }
        text
    }
}

impl Status {
    /// Four letters, so that the columns stand.
    fn render(self, style: Style) -> String {
        let (word, colour) = match self {
            Status::Ok => ("ok  ", "32"),
            Status::Warn => ("warn", "33"),
            Status::Fail => ("FAIL", "1;31"),
        };
        match style {
            Style::Plain => word.to_owned(),
            Style::Colour => format!("\x1b[{colour}m{word}\x1b[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sources::KernelSource;

    #[tokio::test]
    async fn every_finding_that_is_not_good_has_a_remedy_and_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let (absent, cache) = (directory.path().join("absent"), directory.path().join("cache"));
        let sources = Sources {
            kernel: KernelSource::Files { image: absent.clone(), modules: None },
            guest: Some(absent.clone()),
        };
        let patient = Patient { home: &absent, stores: &Stores::new(&absent), sources: &sources };
        let places = VmPlaces {
            templates: &Templates::open(absent.join("templates")).with_cache(&cache),
            cache: &cache,
        };
        let report = Report::examine_all(&patient, &places).await;
        assert!(!report.can_run());
        for name in ["kernel", "guest binary"] {
            let check = report.checks.iter().find(|check| check.name == name).unwrap();
            assert_eq!(check.status, Status::Fail, "{check:?}");
            assert!(check.detail.contains("absent"), "{check:?}");
        }
        for check in &report.checks {
            assert_eq!(check.remedy.is_none(), check.status == Status::Ok, "{check:?}");
            assert!(!check.detail.contains('\n'), "{check:?}");
        }
        assert!(!absent.exists());
        for entry in fs::read_dir(directory.path()).unwrap() {
            assert_eq!(entry.unwrap().path(), cache);
        }
    }

    fn sample() -> Report {
        Report {
            checks: vec![
                Check::ok("kernel", "6.1"),
                Check::warn("open files", "500", "raise it"),
                Check::fail("qemu", "not found", "install the package qemu-system-x86"),
            ],
        }
    }

    #[test]
    fn a_report_is_a_table_with_remedies_beneath() {
        assert_eq!(
            sample().render(Style::Plain),
            "ok    kernel      6.1\n\
             warn  open files  500\n                  -> raise it\n\
             FAIL  qemu        not found\n                  -> install the package qemu-system-x86\n"
        );
        assert!(sample().render(Style::Colour).contains("\x1b[1;31mFAIL\x1b[0m"));
    }

    #[test]
    fn only_a_failure_keeps_boxes_from_running() {
        let mut report = sample();
        assert!(!report.can_run());
        report.checks.pop();
        assert!(report.can_run());
    }

    #[test]
    fn a_report_survives_json() {
        let json = serde_json::to_string(&sample()).unwrap();
        assert!(json.contains(r#""status":"fail""#), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), sample());
    }
}
