//! `restore` and `fork`: boxes that go on where another one was captured.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use boxwood_state::clock::Moment;
use boxwood_state::events::Action;
use boxwood_state::{
    AfterExit, BoxSpec, Client, Fresh, Snapshot, SnapshotInfo, SnapshotMade, SnapshotPart,
    SnapshotRef, Text, failpoint,
};
use boxwood_types::{BoxId, BoxName, NameError, RestartPolicy};
use boxwood_vmm::snapshot::{Frozen, layer, lend_memory, link_or_copy};
use boxwood_vmm::{Engine, make_overlay};

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

impl RestoreRequest {
    /// Checks what can be checked before anything is captured or looked up.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn check(&self) -> Result<(), Error> {
        check_env(&self.env)
    }

    /// What so many children of a fork are to have: of several, each has its number behind its name.
    ///
    /// # Errors
    /// When that makes a name too long.
    pub fn numbered(&self, number: u16) -> Result<Vec<RestoreRequest>, NameError> {
        let child = |n| {
            let name = match &self.name {
                Some(name) if number > 1 => Some(format!("{name}-{n}").parse()?),
                other => other.clone(),
            };
            Ok(RestoreRequest { name, ..self.clone() })
        };
        (1..=number).map(child).collect()
    }
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
        request.check()?;
        self.recover()?;
        let (directory, cache) = (&snapshot.directory, self.locations.cache());
        let source = self.source(&snapshot.info)?;
        // Whatever is wrong with it is found before there is a box, and a large memory is made
        // whole.
        let frozen = Frozen::open(directory, &cache).await?;
        let accelerator = boxwood_vmm::probe(&cache)?.accelerator;
        let engine = Engine::find(accelerator, &cache)?;
        frozen.fits(&engine, accelerator, directory)?;
        failpoint("restore: snapshot checked");
        self.go_on((directory, Some(SnapshotMade::Sealed)), &source, request)
    }

    /// A new box that begins anew with the disk of a snapshot; it is not started yet.
    ///
    /// # Errors
    /// When the disk is damaged; then nothing stays behind.
    pub async fn restore_disk(
        &self,
        snapshot: &Snapshot,
        request: &RestoreRequest,
    ) -> Result<Held, Error> {
        request.check()?;
        self.recover()?;
        let mut source = self.source(&snapshot.info)?;
        Frozen::check_disk(&snapshot.directory).await?;
        let template = self.template_again(&source).await?;
        source.again = Some(template);
        self.go_on((&snapshot.directory, None), &source, request)
    }

    /// Captures a box that is to be forked; it goes on.
    ///
    /// # Errors
    /// When it could not be captured.
    pub async fn fork(&self, listed: &Listed) -> Result<Fork, Error> {
        self.recover()?;
        let Capture { fresh, info } = self.capture(listed, SnapshotPart::Everything).await?;
        failpoint("fork: captured");
        // Once for all children.
        Frozen::open_fresh(fresh.directory()).await?;
        failpoint("fork: memory made");
        Ok(Fork { fresh, info })
    }

    /// A child of a box that was captured for it; it is not started yet.
    ///
    /// # Errors
    /// When it could not be made; then nothing stays behind.
    pub fn fork_child(&self, fork: &Fork, request: &RestoreRequest) -> Result<Held, Error> {
        request.check()?;
        let from = (fork.fresh.directory(), Some(SnapshotMade::Fresh));
        self.go_on(from, &fork.info.source, request)
    }

    /// The captured box with what this host has of it: a snapshot may have come from elsewhere.
    fn source(&self, info: &SnapshotInfo) -> Result<BoxSpec, Error> {
        let mut source = info.source.clone();
        source.image.block = self.image_of(info)?;
        for template in std::iter::once(&mut source.template).chain(&mut source.again) {
            template.store = self.locations.templates();
            template.cache = self.locations.cache();
        }
        Ok(source)
    }

    /// The block image of the image that a captured box runs.
    pub(crate) fn image_of(&self, info: &SnapshotInfo) -> Result<PathBuf, Error> {
        let image = &info.source.image;
        let found = self.images()?.resolve(image.id.as_str());
        let found = found.map_err(|source| {
            let (name, image) = (info.name.clone(), format!("{} ({})", image.name, image.id));
            Error::ImageOfSnapshot { name, image, source: Box::new(source) }
        })?;
        Ok(found.block().to_owned())
    }

    fn go_on(
        &self,
        (directory, made): (&Path, Option<SnapshotMade>),
        source: &BoxSpec,
        request: &RestoreRequest,
    ) -> Result<Held, Error> {
        let (new, spec) = self.reserve(request.name.as_ref(), |id, name| {
            let snapshot = made.map(|made| SnapshotRef {
                directory: match made {
                    SnapshotMade::Sealed => directory.to_owned(),
                    // That is swept as soon as nobody needs it who made it.
                    SnapshotMade::Fresh => self.home.memory_of(&id),
                },
                made,
            });
            Ok(spec(source, (id, name), request, snapshot))
        })?;
        let (dir, owner) = new.into_parts()?;
        let held = Held { dir, spec, owner, seat: None };
        // With its disk it can be started, so that is the last.
        let lent = match made {
            Some(SnapshotMade::Fresh) => lend_memory(directory, &held.dir.memory())
                .map_err(|(path, source)| Error::Disk { path, source }),
            _ => Ok(()),
        };
        failpoint("restore: memory lent");
        let given = lent.and_then(|()| give_disk(&held, directory));
        match given {
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
    snapshot: Option<SnapshotRef>,
) -> BoxSpec {
    let mut spec = source.clone();
    if spec.hostname == source.id.short() {
        spec.hostname = id.short().to_owned();
        // What is started in it from now on is to know it by that name; who named one means it.
        let named = [b"HOSTNAME=", source.id.short().as_bytes()].concat();
        for setting in spec.process.env.iter_mut().filter(|setting| setting.0 == named) {
            *setting = Text::from(format!("HOSTNAME={}", id.short()).as_str());
        }
    }
    // Should it be started once more, it has a disk of its own.
    spec.template = spec.again.clone().unwrap_or(spec.template);
    spec.process.env = join_env(spec.process.env, &request.env);
    // Boxwood's own are about the source alone: by what key it was asked for.
    spec.labels.retain(|name, _| !name.starts_with("boxwood."));
    spec.labels.extend(request.labels.clone());
    if request.after_exit == AfterExit::Remove {
        spec.restart = RestartPolicy::No;
    }
    BoxSpec {
        id,
        name,
        created: Moment::now(),
        snapshot,
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
    let layers = held.dir.begin_layers()?;
    failpoint("restore: disk begun");
    for number in 0.. {
        let from = layer(directory, number);
        if !from.exists() {
            break;
        }
        let to = layers.join(number.to_string());
        let linked = File::open(&from).and_then(|file| link_or_copy(&file, &to));
        linked.map_err(failed(&to))?;
    }
    failpoint("restore: layers given");
    let overlay = held.dir.new_overlay()?;
    failpoint("restore: overlay begun");
    make_overlay(&overlay).map_err(failed(&held.dir.disk()))?;
    failpoint("restore: overlay made");
    held.dir.take_layers().map_err(failed(&held.dir.disk()))?;
    failpoint("restore: disk given");
    Ok(())
}
