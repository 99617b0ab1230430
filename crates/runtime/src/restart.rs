//! `start`: a box that has ended is taken in hand again, with its disk as it was.

use std::time::Duration;

use boxwood_state::{BoxDir, Client, Owner, StateError, failpoint};
use boxwood_types::BoxState;

use crate::{Error, Progress, Runtime, Start, start::Held};

/// How long those who only look at a box's lock may keep it from who starts the box.
const LOOKERS: Duration = Duration::from_secs(2);

impl Runtime {
    /// Takes the lock of a box that does not run, so that it can be started with this client.
    ///
    /// # Errors
    /// When it runs, or was to be removed, or can't be read.
    pub async fn hold_again(
        &self,
        name: &str,
        client: Client,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Held, Error> {
        let listed = self.let_end(self.find(name)?).await?;
        let running = |state| Error::WrongState {
            id: listed.spec.id.clone(),
            state,
            hint: match state {
                BoxState::Paused => "'boxwood unpause' lets it go on",
                BoxState::Stopping => "try again when it has ended",
                _ => "it is running already",
            },
        };
        if listed.record.state.is_live() {
            return Err(running(listed.record.state));
        }
        // Whoever only looks at the lock holds it for a moment, so it is worth waiting for; whoever
        // starts the box in that moment keeps it.
        let path = listed.dir.path().to_owned();
        let id = listed.spec.id.clone();
        let lock = tokio::task::spawn_blocking(move || {
            BoxDir::open(&path)?.map(|dir| dir.lock()).transpose()
        });
        let lock = match tokio::time::timeout(LOOKERS, lock).await {
            Ok(Ok(Ok(Some(lock)))) => lock,
            Ok(Ok(Err(error))) if listed.dir.path().exists() => return Err(error.into()),
            Err(_) => return Err(running(listed.dir.record()?.state)),
            _ => return Err(StateError::NoSuchBox(id.short().to_owned()).into()),
        };
        let state = listed.dir.record()?.state;
        if state.is_live() {
            return Err(running(state));
        }
        if state == BoxState::Created && !listed.dir.has_disk()? {
            // Who was making it was killed a moment ago: it never came to be.
            self.home.remove(&listed.dir)?;
            return Err(StateError::NoSuchBox(name.to_owned()).into());
        }
        // Before anything that takes time: who wants something of the box meanwhile is heard by the
        // shim, or hung up on if there will be none.
        let owner = Owner { lock, listener: listed.dir.listen()? };
        failpoint("start again: box held");
        let spec = listed.spec;
        let prepared =
            self.prepare(spec.image.id.as_str(), spec.shape, Start::Again, progress).await?;
        let spec = self.home.change_spec(&listed.dir, |spec| {
            spec.template = prepared.template;
            spec.again = Some(prepared.again);
            if state != BoxState::Created {
                // What it went on from once is not what it is now.
                spec.snapshot = None;
            }
            spec.client = client;
        })?;
        failpoint("start again: spec written");
        Ok(Held { dir: listed.dir, spec, owner, seat: None })
    }
}
