//! `snapshot`: a running box is captured, and what was captured is kept, listed, checked, removed.

use std::path::PathBuf;
use std::time::Duration;

use boxwood_state::clock::Moment;
use boxwood_state::control::{Reply, Request};
use boxwood_state::{
    BoxSpec, Fresh, SNAPSHOT_INFO, Snapshot, SnapshotInfo, SnapshotPart, StateError, failpoint,
};
use boxwood_types::{BoxId, BoxName, BoxState};
use boxwood_vmm::snapshot::{Frozen, link_layers, seal};
use boxwood_vmm::{MAX_LAYERS, make_overlay};

use crate::shim_client::{self, FromShim};
use crate::wait::in_time;
use crate::{Error, Listed, Runtime};

/// What a guest may take to write its disk out, and QEMU to be captured; see the shim.
const CAPTURE: Duration = Duration::from_secs(140);

/// A capture that nobody sees yet.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) fresh: Fresh,
    pub(crate) info: SnapshotInfo,
}

impl Runtime {
    /// Captures a running box and keeps it under a name. The box goes on. Of a box that does not run, the
    /// disk can be captured.
    ///
    /// # Errors
    /// When it does not run, or could not be captured; then it goes on all the same, and nothing is left.
    pub async fn snapshot(
        &self,
        listed: &Listed,
        name: &BoxName,
        part: SnapshotPart,
    ) -> Result<Snapshot, Error> {
        if self.home.has_snapshot(name) {
            return Err(StateError::SnapshotTaken(name.to_string()).into());
        }
        let at_rest = part == SnapshotPart::Disk && !listed.record.state.is_live();
        let Capture { fresh, mut info } = match at_rest {
            true => self.capture_at_rest(listed)?,
            false => self.capture(listed, part).await?,
        };
        info.name = name.clone();
        fresh.describe(&info)?;
        failpoint("snapshot: described");
        seal(fresh.directory(), &[SNAPSHOT_INFO]).await?;
        failpoint("snapshot: sealed");
        let directory = self.home.publish_snapshot(fresh, name)?;
        Ok(Snapshot { directory, info })
    }

    /// Captures a running box into a directory that nobody sees.
    pub(crate) async fn capture(
        &self,
        listed: &Listed,
        part: SnapshotPart,
    ) -> Result<Capture, Error> {
        let (spec, state) = (&listed.spec, listed.record.state);
        let not_running = || {
            let hint = "only a running box can be captured";
            Error::WrongState { id: spec.id.clone(), state, hint }
        };
        if !state.is_live() || state == BoxState::Paused {
            return Err(not_running());
        }
        let mut capture = self.begin(spec, part)?;
        let request = Request::Capture { token: capture.fresh.token().to_owned(), part };
        let asked = shim_client::ask_watched(&listed.dir, &request).await?;
        let Some((mut reader, _writer)) = asked else { return Err(not_running()) };
        failpoint("snapshot: shim asked");
        match in_time(&listed.dir, CAPTURE, reader.next()).await? {
            Some(FromShim::Reply(Reply::Captured { pause_us, pages })) => {
                capture.info.pause_us = pause_us;
                capture.info.pages = pages;
                failpoint("snapshot: captured");
                Ok(capture)
            }
            Some(FromShim::Reply(Reply::Refused { state, message })) => {
                Err(Error::Refused { id: spec.id.clone(), state, message })
            }
            Some(FromShim::Reply(Reply::Ended { .. })) | None => {
                let state = self.find(spec.id.as_str()).map_or(state, |now| now.record.state);
                let hint = "it ended while it was captured";
                Err(Error::WrongState { id: spec.id.clone(), state, hint })
            }
            Some(_) => Err(Error::ShimProtocol { id: spec.id.clone() }),
        }
    }

    /// Captures the disk of a box that nobody owns: what it is becomes a layer, which is shared.
    fn capture_at_rest(&self, listed: &Listed) -> Result<Capture, Error> {
        let Listed { spec, dir, .. } = listed;
        let (id, hint) = (spec.id.clone(), "it is being started: try again");
        let Some(_lock) = dir.try_lock()? else {
            return Err(Error::WrongState { id, state: dir.record()?.state, hint });
        };
        let state = dir.record()?.state;
        if state.is_live() {
            return Err(Error::WrongState { id, state, hint });
        }
        if dir.disk_files()?.below.len() >= MAX_LAYERS {
            return Err(Error::TooManyLayers { id, limit: MAX_LAYERS });
        }
        let capture = self.begin(spec, SnapshotPart::Disk)?;
        let failed = |path: PathBuf, source| Error::Disk { path, source };
        let overlay = dir.new_overlay()?;
        failpoint("snapshot: overlay made");
        make_overlay(&overlay)
            .and_then(|()| overlay.sync_all())
            .and_then(|()| dir.push_overlay())
            .map_err(|source| failed(dir.disk(), source))?;
        failpoint("snapshot: disk switched");
        let linked = link_layers(&dir.disk_files()?.below, capture.fresh.directory());
        linked.map_err(|(path, source)| failed(path, source))?;
        Ok(capture)
    }

    fn begin(&self, spec: &BoxSpec, part: SnapshotPart) -> Result<Capture, Error> {
        self.home.sweep_snapshots()?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let id = BoxId::from_random(random);
        let fresh = self.home.new_snapshot(&id)?;
        failpoint("snapshot: directory made");
        let info = SnapshotInfo {
            name: spec.name.clone(),
            id,
            created: Moment::now(),
            source: spec.clone(),
            pause_us: 0,
            pages: 0,
            part,
        };
        Ok(Capture { fresh, info })
    }

    /// The snapshot with this name.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn find_snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        Ok(self.home.snapshot(name)?)
    }

    /// All snapshots, the oldest first. What can't be read is told to `broken`.
    ///
    /// # Errors
    /// When the home can't be read.
    pub fn snapshots(&self, broken: &mut dyn FnMut(Error)) -> Result<Vec<Snapshot>, Error> {
        self.recover()?;
        let (snapshots, errors) = self.home.all_snapshots()?;
        errors.into_iter().for_each(|error| broken(error.into()));
        Ok(snapshots)
    }

    /// Reads all of a snapshot and compares it with what was captured (contract S1).
    ///
    /// # Errors
    /// When it is damaged, or this host can't restore it; the message says which.
    pub async fn verify_snapshot(&self, snapshot: &Snapshot) -> Result<(), Error> {
        Ok(Frozen::verify(&snapshot.directory, &self.locations.cache()).await?)
    }

    /// Removes a snapshot. Boxes that were restored from it, and other snapshots, keep what they need.
    ///
    /// # Errors
    /// When there is none, or the disk says no.
    pub fn remove_snapshot(&self, name: &str) -> Result<(), Error> {
        self.home.sweep_snapshots()?;
        Ok(self.home.remove_snapshot(name)?)
    }
}
