//! What boxes that are gone have counted: a file in the home, replaced whole, one writer at a time. Called by
//! [`Home`](crate::Home).

use std::fs;
use std::path::{Path, PathBuf};

use boxwood_types::BoxId;
use serde::{Deserialize, Serialize};

use super::{Tally, counters};
use crate::{StateError, atomic};

const FILE: &str = "metrics.json";
/// The counters of a box, in its directory.
pub(crate) const OF_BOX: &str = "metrics";

/// The totals of a home, by one who holds the lock of its metrics.
#[derive(Debug)]
pub(crate) struct Totals<'a> {
    home: &'a Path,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sum {
    /// The box that was added last: its own counters may still be there.
    #[serde(default)]
    added: Option<BoxId>,
    #[serde(default)]
    tally: Tally,
}

impl<'a> Totals<'a> {
    pub(crate) fn of(home: &'a Path) -> Self {
        Totals { home }
    }

    /// Adds what a removed box has counted, once: its own counters go in the same step, or before the next
    /// box is added. `gone` says where the directory of a removed box is.
    ///
    /// # Errors
    /// When they can't be replaced; then nothing has changed.
    pub(crate) fn take(
        &self,
        id: &BoxId,
        gone: impl Fn(&BoxId) -> PathBuf,
    ) -> Result<(), StateError> {
        let own = gone(id).join(OF_BOX);
        let mut sum = self.read();
        if let Some(last) = &sum.added {
            let _ = fs::remove_file(gone(last).join(OF_BOX));
        }
        if !own.exists() {
            return Ok(());
        }
        sum.tally.add(&counters::tally(&own));
        sum.added = Some(id.clone());
        atomic::replace_unsynced(self.home, FILE, &sum)?;
        crate::failpoint("remove: counters added");
        let _ = fs::remove_file(&own);
        Ok(())
    }

    /// All of it: that of boxes that are gone, and of those in these directories.
    pub(crate) fn with(&self, boxes: impl Iterator<Item = PathBuf>) -> Tally {
        let Sum { added, tally: mut sum } = self.read();
        for directory in boxes {
            let name = directory.file_name().unwrap_or_default().to_string_lossy();
            if added.as_ref().is_none_or(|added| !name.ends_with(added.as_str())) {
                sum.add(&counters::tally(&directory.join(OF_BOX)));
            }
        }
        sum
    }

    /// One that is damaged counts from 0: it is no truth that anything is decided by.
    fn read(&self) -> Sum {
        atomic::read(&self.home.join(FILE)).ok().flatten().unwrap_or_default()
    }
}
