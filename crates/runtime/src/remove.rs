//! `rm`: a box and everything of it goes.

use boxwood_state::control::Request;

use crate::{Error, Listed, Runtime};

/// What to do with a box that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Refuse.
    No,
    /// End its VM first.
    Kill,
}

impl Runtime {
    /// Removes a box whose files can't be read, so that nobody knows what it was. Only when nobody
    /// owns it.
    ///
    /// # Errors
    /// When none or several are meant, somebody owns it, or it can't be removed.
    pub fn remove_damaged(&self, name: &str) -> Result<(), Error> {
        let dir = self.home.find(name)?;
        match dir.try_lock()? {
            Some(_lock) => Ok(self.home.remove(&dir)?),
            None => Err(Error::Owned { id: dir.id().clone() }),
        }
    }

    /// Removes a box.
    ///
    /// # Errors
    /// When it runs and may not be killed, or its VM could not be ended: then it stays whole.
    pub async fn remove(&self, listed: Listed, force: Force) -> Result<(), Error> {
        let Listed { dir, spec, record } = listed;
        // A box that was created and has an owner is about to be started.
        let owned = record.state.is_live() || dir.look_unowned()?.is_none();
        if owned {
            if force == Force::No {
                let hint = "stop it first, or remove it by force (rm -f)";
                return Err(Error::WrongState { id: spec.id, state: record.state, hint });
            }
            match self.ask_and_wait(&dir, &Request::Kill).await {
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
        let _lock = match lock.await {
            Ok(Ok(lock)) => lock,
            Ok(Err(_)) | Err(_) if !dir.path().exists() => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Error::ShimLost { id: spec.id }),
        };
        Ok(self.home.remove(&dir)?)
    }
}
