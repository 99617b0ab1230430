//! `rename`: a box gets another name, whether it runs or not.

use boxwood_types::BoxName;

use crate::{Error, Listed, Runtime};

impl Runtime {
    /// Gives a box another name.
    ///
    /// # Errors
    /// When another box has it, or the box has it already.
    pub fn rename(&self, listed: &Listed, name: &BoxName) -> Result<(), Error> {
        Ok(self.home.rename(&listed.dir, name)?)
    }
}
