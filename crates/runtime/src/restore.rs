//! `restore` and `fork`: boxes that go on where another one was captured.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use boxwood_state::clock::Moment;
use boxwood_state::events::Action;
use boxwood_state::{
    AfterExit, BoxSpec, Client, Fresh, Snapshot, SnapshotInfo, SnapshotMade, SnapshotRef,
};
use boxwood_types::{BoxId, BoxName, RestartPolicy};
use boxwood_vmm::make_overlay;
use boxwood_vmm::snapshot::{Frozen, layer, link_or_copy};

use crate::request::{check_env, join_env};
use crate::snapshot::Capture;
use crate::start::Held;
use crate::{Error, Listed, Runtime};

/// What a box that goes on from another one is to have of its own.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// Its name; one is made up when there is none.
    pub name: Option<BoxName>,
    /// Settings for the processes that are started in it from now on: `NAME=value`, or a name to drop.
    pub env: Vec<OsString>,
    /// What users say about it, besides what they said about the one that was captured.
    pub labels: BTreeMap<String, String>,
    /// What becomes of it when its main has ended.
    pub after_exit: AfterExit,
    /// Whether the starting client stays.
    pub client: Client,
}

/// Captured boxes' children, which can be started as long as this lives.
#[derive(Debug)]
pub struct Fork {
    fresh: Fresh,
    info: SnapshotInfo,
}

impl Runtime {
    /// A new box that goes on where the snapshot was captured; it is not started yet.
    ///
    /// # Errors
    /// When the snapshot is damaged or does not fit this host; then nothing stays behind.
    pub async fn restore(
        &self,
        snapshot: &Snapshot,
        request: &RestoreRequest,
    ) -> Result<Held, Error> {
        // Whatever is wrong with it is found before there is a box, and its memory is made whole.
        Frozen::open(&snapshot.directory).await?;
        self.go_on((&snapshot.directory, SnapshotMade::Sealed), &snapshot.info, request)
    }

    /// Captures a box that is to be forked; it goes on.
    ///
    /// # Errors
    /// When it could not be captured.
    pub async fn fork(&self, listed: &Listed) -> Result<Fork, Error> {
        let Capture { fresh, info } = self.capture(listed).await?;
        // Once for all children.
        Frozen::open_fresh(fresh.directory()).await?;
        Ok(Fork { fresh, info })
    }

    /// A child of a box that was captured for it; it is not started yet.
    ///
    /// # Errors
    /// When it could not be made; then nothing stays behind.
    pub fn fork_child(&self, fork: &Fork, request: &RestoreRequest) -> Result<Held, Error> {
        self.go_on((fork.fresh.directory(), SnapshotMade::Fresh), &fork.info, request)
    }

    fn go_on(
        &self,
        (directory, made): (&Path, SnapshotMade),
        info: &SnapshotInfo,
        request: &RestoreRequest,
    ) -> Result<Held, Error> {
        check_env(&request.env)?;
        let snapshot = SnapshotRef { directory: directory.to_owned(), made };
        let (new, spec) = self.reserve(request.name.as_ref(), |id, name| {
            Ok(spec(&info.source, (id, name), request, snapshot.clone()))
        })?;
        let (dir, owner) = new.into_parts()?;
        let held = Held { dir, spec, owner };
        match give_disk(&held, directory) {
            Ok(()) => {
                self.home.announce(&held.spec, &Action::Create);
                Ok(held)
            }
            Err(error) => {
                // Nothing ran in it. If it can't be removed either, it stays as 'created'.
                let _ = self.home.remove(&held.dir);
                Err(error)
            }
        }
    }
}

/// The captured box's spec with what is the new one's own.
fn spec(
    source: &BoxSpec,
    (id, name): (BoxId, BoxName),
    request: &RestoreRequest,
    snapshot: SnapshotRef,
) -> BoxSpec {
    let mut spec = source.clone();
    if spec.hostname == source.id.short() {
        spec.hostname = id.short().to_owned();
    }
    // Should it be started once more, it has a disk of its own.
    spec.template = spec.again.clone().unwrap_or(spec.template);
    spec.process.env = join_env(spec.process.env, &request.env);
    spec.labels.extend(request.labels.clone());
    if request.after_exit == AfterExit::Remove {
        spec.restart = RestartPolicy::No;
    }
    BoxSpec {
        id,
        name,
        created: Moment::now(),
        snapshot: Some(snapshot),
        after_exit: request.after_exit,
        client: request.client,
        ..spec
    }
}

/// An empty overlay over what was captured of the disk.
fn give_disk(held: &Held, directory: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Disk { path, source }
    };
    let layers = held.dir.make_layers()?;
    for number in 0.. {
        let from = layer(directory, number);
        if !from.exists() {
            break;
        }
        let to = layers.join(number.to_string());
        let linked = File::open(&from).and_then(|file| link_or_copy(&file, &to));
        linked.map_err(failed(&to))?;
    }
    let overlay = held.dir.new_overlay()?;
    make_overlay(&overlay).map_err(failed(&held.dir.disk()))?;
    // With layers and no disk, it is the disk.
    held.dir.disk_files()?;
    Ok(())
}
