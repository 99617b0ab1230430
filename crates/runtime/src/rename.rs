//! `rename`: a box gets another name, whether it runs or not.

use boxwood_state::BoxSpec;
use boxwood_state::events::Action;
use boxwood_types::BoxName;

use crate::{Error, Listed, Runtime};

impl Runtime {
    /// Gives a box another name.
    ///
    /// # Errors
    /// When another box has it, or the box has it already.
    pub fn rename(&self, listed: &Listed, name: &BoxName) -> Result<(), Error> {
        self.home.rename(&listed.dir, name)?;
        let renamed = BoxSpec { name: name.clone(), ..listed.spec.clone() };
        let old = listed.spec.name.to_string();
        self.home.announce(&renamed, &Action::Rename { old });
        Ok(())
    }
}
