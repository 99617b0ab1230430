//! Telling the truth about boxes whose shim has gone (contract H6).

use boxwood_state::events::{Action, Cursor};
use boxwood_state::metrics::Counter;
use boxwood_state::{AfterExit, BoxDir, BoxSpec, Client, Record, StateError, clock};
use boxwood_types::{BoxState, ExitStatus};

use crate::{Error, Runtime};

impl Runtime {
    /// The true record of a box; `None` when the box has just gone. A record that says "running"
    /// while nobody owns the box is corrected on disk first, and what was to be removed at its end
    /// is removed.
    ///
    /// # Errors
    /// When the record can't be read or corrected.
    pub fn record(&self, dir: &BoxDir) -> Result<Option<Record>, Error> {
        let record = match dir.record() {
            Err(error) if error.is_damage() && dir.is_fleeting() => return self.correct(dir),
            read => read,
        };
        let Some(record) = unless_gone(dir, record)? else { return Ok(None) };
        if !may_be_lost(&record) {
            return Ok(Some(record));
        }
        if unless_gone(dir, dir.look_unowned())?.flatten().is_none() {
            // Owned, or just gone: then its record is gone, too.
            return Ok(unless_gone(dir, dir.record())?);
        }
        self.correct(dir)
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
            if let Some(dir) = self.home.get(&id)? {
                let _ = self.record(&dir);
                let _ = self.settle_disk(&dir);
            }
        }
        self.home.sweep_snapshots()?;
        if self.home.has_pool() {
            let _alone = self.home.pool_lock()?;
            self.home.sweep_pool()?;
        }
        self.home.sweep_unsaid_failures();
        Ok(self.home.sweep()?)
    }

    /// Takes away what was to be a disk of a box whose owner was killed meanwhile.
    fn settle_disk(&self, dir: &BoxDir) -> Result<(), StateError> {
        if dir.is_settled() {
            return Ok(());
        }
        let _alone = self.home.recovering()?;
        match dir.look_unowned()? {
            Some(_unowned) => dir.settle_disk(),
            None => Ok(()),
        }
    }

    /// One at a time, and while nobody can become the owner.
    fn correct(&self, dir: &BoxDir) -> Result<Option<Record>, Error> {
        let _alone = self.home.recovering()?;
        let Some(unowned) = unless_gone(dir, dir.look_unowned())? else { return Ok(None) };
        if unowned.is_none() {
            return Ok(unless_gone(dir, dir.record())?);
        }
        let read = dir.record().and_then(|record| Ok((record, dir.spec()?)));
        if read.as_ref().is_err_and(StateError::is_damage) && dir.is_fleeting() {
            // The host crashed before this was on its disk.
            self.home.remove(dir)?;
            return Ok(None);
        }
        let Some((record, spec)) = unless_gone(dir, read)? else { return Ok(None) };
        // Who was making it was killed before it was whole.
        let half_made = record.state == BoxState::Created && !dir.has_disk()?;
        if half_made || spec.after_exit == AfterExit::Remove && is_lost(&record, &spec) {
            count_vanished(dir, &record);
            self.home.remove(dir)?;
            self.announce_lost(&record, &spec);
            self.home.announce(&spec, &Action::Destroy);
            return Ok(None);
        }
        let now = clock::Moment::now();
        let Some(corrected) = record.recovered(&clock::host_boot_id(), now) else {
            return Ok(Some(record));
        };
        boxwood_state::failpoint("recover: lost box seen");
        match dir.write_end(&corrected) {
            // It is as true as it can be, and making room must stay possible: the next command
            // writes it down.
            Err(error) if error.is_for_want_of_room() => Ok(Some(corrected)),
            Err(error) => Err(error.into()),
            Ok(()) => {
                if !self.was_told(&record, &spec) {
                    count_vanished(dir, &record);
                    self.announce_lost(&record, &spec);
                }
                Ok(Some(corrected))
            }
        }
    }

    /// Whether its end was told by one who could not write it down, as on a full disk.
    fn was_told(&self, record: &Record, spec: &BoxSpec) -> bool {
        let ran = matches!(record.state, BoxState::Running | BoxState::Paused | BoxState::Stopping);
        let (true, Some(started)) = (ran, record.started) else { return false };
        let told = || {
            let mut events = Cursor::at_start(&self.home.journal()?)?;
            while let Some(event) = events.next_about(spec.id.as_str())? {
                if event.actor.id == spec.id.as_str()
                    && event.action == "die"
                    && event.time_nano >= started.0
                {
                    return Ok(true);
                }
            }
            Ok::<_, StateError>(false)
        };
        // An end that is told twice is better than one that nobody hears of.
        told().unwrap_or(false)
    }

    /// It has died, and nobody told.
    fn announce_lost(&self, record: &Record, spec: &BoxSpec) {
        // In a back-off that was told.
        if record.state.is_live() && record.vmm_pid.is_some() {
            let code = ExitStatus::Unknown.shell_code();
            self.home.announce(spec, &Action::Die { code, ran: 0 });
        }
    }
}

/// Its VM has ended with its shim, and nobody saw how.
fn count_vanished(dir: &BoxDir, record: &Record) {
    if record.state.is_live() && record.vmm_pid.is_some() {
        dir.counters().add(Counter::ChildrenVanished, 1);
    }
}

/// Whether a record without an owner is that of a lost box.
fn is_lost(record: &Record, spec: &BoxSpec) -> bool {
    record.state.is_live() || record.state == BoxState::Created && spec.client != Client::Later
}

/// Whether a record needs an owner beside it to be true; a box that was created to be removed at its
/// end, and whose creator died, is as good as lost.
fn may_be_lost(record: &Record) -> bool {
    record.state.is_live() || record.state == BoxState::Created
}

/// `None` instead of an error for a box that somebody else has removed meanwhile.
fn unless_gone<T>(dir: &BoxDir, result: Result<T, StateError>) -> Result<Option<T>, StateError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(_) if !dir.path().exists() => Ok(None),
        Err(error) => Err(error),
    }
}
