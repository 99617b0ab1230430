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
    /// All boxes, newest first. One that vanishes meanwhile is left out.
    ///
    /// # Errors
    /// When the home or a box in it can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for id in self.home.ids()? {
            let Some(dir) = self.home.get(&id)? else { continue };
            let Some(record) = self.record(&dir)? else { continue };
            match dir.spec() {
                Ok(spec) => listed.push(Listed { dir, spec, record }),
                Err(_) if !dir.path().exists() => {}
                Err(error) => return Err(error.into()),
            }
        }
        listed.sort_by_key(|one| std::cmp::Reverse(one.spec.created));
        Ok(listed)
    }

    /// The box a user means by a name, an id or its beginning.
    ///
    /// # Errors
    /// When none or several are meant, or it can't be read.
    pub fn find(&self, text: &str) -> Result<Listed, Error> {
        let dir = self.home.find(text)?;
        let gone = || boxwood_state::StateError::NoSuchBox(text.to_owned());
        let record = self.record(&dir)?.ok_or_else(gone)?;
        let spec = dir.spec()?;
        Ok(Listed { dir, spec, record })
    }
}
