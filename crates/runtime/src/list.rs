//! `ps`: every box with its true state.

use boxwood_state::{BoxDir, BoxSpec, Record};

use crate::{Error, Runtime};

/// A box in a listing.
#[derive(Debug)]
pub struct Listed {
    /// Its directory.
    pub dir: BoxDir,
    /// What it was asked to be.
    pub spec: BoxSpec,
    /// What became of it so far.
    pub record: Record,
}

impl Runtime {
    /// All boxes, newest first. One that vanishes meanwhile is left out; one that can't be read hides
    /// no other, and what is wrong with it is told.
    ///
    /// # Errors
    /// When the home can't be read.
    pub fn list(&self, tell: &mut dyn FnMut(Error)) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for id in self.home.ids()? {
            let Some(dir) = self.home.get(&id)? else { continue };
            match self.read(dir) {
                Ok(one) => listed.extend(one),
                Err(error) => tell(error),
            }
        }
        listed.sort_by_key(|one| std::cmp::Reverse(one.spec.created));
        Ok(listed)
    }

    pub(crate) fn read(&self, dir: BoxDir) -> Result<Option<Listed>, Error> {
        let Some(record) = self.record(&dir)? else { return Ok(None) };
        match dir.spec() {
            Ok(spec) => Ok(Some(Listed { dir, spec, record })),
            Err(_) if !dir.path().exists() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The box a user means by a name, an id or its beginning.
    ///
    /// # Errors
    /// When none or several are meant, or it can't be read.
    pub fn find(&self, text: &str) -> Result<Listed, Error> {
        let dir = self.home.find(text)?;
        let gone = || boxwood_state::StateError::NoSuchBox(text.to_owned());
        Ok(self.read(dir)?.ok_or_else(gone)?)
    }
}
