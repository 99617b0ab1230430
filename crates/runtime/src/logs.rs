//! `logs`: what main wrote.

use boxwood_state::log::Reader;

use crate::{Error, Listed, Runtime};

impl Runtime {
    /// A reader of a box's log from its beginning. `None` when main never wrote.
    ///
    /// # Errors
    /// When the log can't be opened.
    pub fn logs(&self, listed: &Listed) -> Result<Option<Reader>, Error> {
        let path = listed.dir.log();
        Reader::open(&path).map_err(|source| Error::Io { action: "read", path, source })
    }
}
