//! Telling the truth about boxes whose shim has gone (contract H6).

use boxwood_state::{AfterExit, BoxDir, Record, clock};
use boxwood_types::BoxState;

use crate::{Error, Runtime};

impl Runtime {
    /// The true record of a box; `None` when the box has just gone. A record that says "running"
    /// while nobody holds the lock is corrected on disk first, and what was to be removed at its end
    /// is removed.
    ///
    /// # Errors
    /// When the record can't be read or corrected.
    pub fn record(&self, dir: &BoxDir) -> Result<Option<Record>, Error> {
        let record = match dir.record() {
            Ok(record) => record,
            Err(error) => return if self.is_gone(dir) { Ok(None) } else { Err(error.into()) },
        };
        if !record.state.is_live() && record.state != BoxState::Created {
            return Ok(Some(record));
        }
        let lock = match dir.try_lock() {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(Some(record)),
            Err(_) if self.is_gone(dir) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The lock is ours, so nobody changes the record now: what it says is the last word.
        let record = match dir.record() {
            Ok(record) => record,
            Err(_) if self.is_gone(dir) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let now = clock::Moment::now();
        let Some(corrected) = record.recovered(&clock::host_boot_id(), now) else {
            return Ok(Some(record));
        };
        let spec = dir.spec()?;
        if spec.after_exit == AfterExit::Remove {
            self.home.remove(dir)?;
            return Ok(None);
        }
        dir.write_record(&corrected)?;
        drop(lock);
        Ok(Some(corrected))
    }

    /// Goes over the whole home: lost boxes are recorded as lost, abandoned ones are removed, and
    /// what killed creations and removals left is deleted. Any number of runtimes may do it at the
    /// same time.
    ///
    /// # Errors
    /// When the home can't be read. A single box that can't be read is passed over: the verb that
    /// names it will say why.
    pub fn recover(&self) -> Result<(), Error> {
        for id in self.home.ids()? {
            let Some(dir) = self.home.get(&id)? else { continue };
            let _ = self.record(&dir);
            let _ = self.remove_if_abandoned(&dir);
        }
        Ok(self.home.sweep()?)
    }

    /// A box that was to be removed at its end and whose starter died before its shim began.
    fn remove_if_abandoned(&self, dir: &BoxDir) -> Result<(), Error> {
        if dir.spec()?.after_exit != AfterExit::Remove {
            return Ok(());
        }
        if let Some(_lock) = dir.try_lock()? {
            self.home.remove(dir)?;
        }
        Ok(())
    }

    fn is_gone(&self, dir: &BoxDir) -> bool {
        !dir.path().exists()
    }
}
