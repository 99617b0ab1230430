//! `rm`: a box and everything of it goes.

use std::time::Duration;

use boxwood_state::control::Request;
use boxwood_state::events::Action;
use boxwood_state::{BoxDir, StateError, failpoint};

use crate::shim_client;
use crate::wait::END;
use crate::{Error, Listed, Runtime};

/// How long a shim that has written down the end of its box may take to let go of it.
const LETTING_GO: Duration = Duration::from_secs(2);

/// What to do with a box that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Refuse.
    No,
    /// End its VM first.
    Kill,
}

/// Whether a box has no shim, or one that is about to go.
async fn no_shim(dir: &BoxDir) -> Result<bool, Error> {
    let Some((mut reader, _writer)) = shim_client::ask(dir, &Request::Wait).await? else {
        return Ok(true);
    };
    Ok(tokio::time::timeout(LETTING_GO, reader.ended()).await.is_ok())
}

impl Runtime {
    /// Removes a box whose files can't be read, so that nobody knows what it was. Only when nobody
    /// owns it.
    ///
    /// # Errors
    /// When none or several are meant, somebody owns it, or it can't be removed.
    pub async fn remove_damaged(&self, name: &str) -> Result<(), Error> {
        let dir = self.home.find(name)?;
        let free = match self.is_let_go(&dir).await {
            // Without a lock that can be looked at, a shim is known by its socket.
            Err(Error::State(StateError::Missing { .. })) => no_shim(&dir).await?,
            other => other?,
        };
        // Held until the box is gone; without the file nobody can take it either.
        let _lock = match dir.try_lock() {
            Ok(Some(lock)) if free => Some(lock),
            Err(StateError::Missing { .. }) if free => None,
            Err(error) if !matches!(error, StateError::Missing { .. }) => return Err(error.into()),
            _ => return Err(Error::Owned { id: dir.id().clone() }),
        };
        Ok(self.home.remove(&dir)?)
    }

    /// Removes a box.
    ///
    /// # Errors
    /// When it runs and may not be killed, or its VM could not be ended: then it stays whole.
    pub async fn remove(&self, listed: Listed, force: Force) -> Result<(), Error> {
        let Listed { dir, spec, record } = match force {
            Force::No => self.let_end(listed).await?,
            Force::Kill => listed,
        };
        if !dir.path().exists() {
            return Ok(());
        }
        // A box that does not run and has an owner is about to be started, or has just ended: then its
        // shim has one step to go.
        let live = record.state.is_live();
        let owned = live || !self.is_let_go(&dir).await?;
        if owned {
            if force == Force::No {
                let hint = "stop it first, or remove it by force (rm -f)";
                return Err(Error::WrongState { id: spec.id, state: record.state, hint });
            }
            match self.ask_and_wait(&dir, &Request::Kill, END).await {
                Ok(_) => {}
                // It was to be removed at its end, and has been.
                Err(Error::ShimLost { .. }) if !dir.path().exists() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if !dir.path().exists() {
            return Ok(());
        }
        // The shim says how its box ended right before it lets go of the lock.
        let path = dir.path().to_owned();
        let lock = tokio::task::spawn_blocking(move || {
            boxwood_state::BoxDir::open(&path)?.map(|dir| dir.lock()).transpose()
        });
        let Ok(lock) = tokio::time::timeout(END, lock).await else {
            return Err(Error::Held { id: spec.id, path: dir.path().join("lock") });
        };
        let _lock = match lock {
            Ok(Ok(lock)) => lock,
            Ok(Err(_)) | Err(_) if !dir.path().exists() => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Error::ShimLost { id: spec.id }),
        };
        failpoint("remove: box held");
        self.home.remove(&dir)?;
        failpoint("remove: gone");
        self.home.announce(&spec, &Action::Destroy);
        Ok(())
    }

    /// Whether nobody owns a box that does not run, or its owner lets go of it in a moment.
    async fn is_let_go(&self, dir: &BoxDir) -> Result<bool, Error> {
        if dir.look_unowned()?.is_some() {
            return Ok(true);
        }
        let path = dir.path().to_owned();
        let free = tokio::task::spawn_blocking(move || {
            BoxDir::open(&path)?.map(|dir| dir.lock()).transpose().map(drop)
        });
        // When the box goes meanwhile there is nothing left to own.
        Ok(tokio::time::timeout(LETTING_GO, free).await.is_ok())
    }
}
