//! `attach`: main's standard streams, for one more client; and what the client of a box's terminal has
//! to say beside them.

use boxwood_state::BoxDir;
use boxwood_state::control::Request;
use boxwood_types::WindowSize;

use crate::shim_client::{ShimReader, ShimWriter};
use crate::{Error, Listed, Runtime};

/// Main's standard streams from now on.
#[derive(Debug)]
pub struct Attached {
    /// What the shim says.
    pub reader: ShimReader,
    /// What main reads, if its standard input is connected.
    pub writer: ShimWriter,
}

impl Runtime {
    /// Attaches to the main of a box that runs or starts.
    ///
    /// # Errors
    /// When the box does not run, or its shim can't be asked.
    pub async fn attach(&self, listed: &Listed) -> Result<Attached, Error> {
        let (reader, writer) = self.streams(listed, &Request::Attach).await?;
        Ok(Attached { reader, writer })
    }

    /// The same, beginning with everything main wrote before, as far as its log is kept: without a gap,
    /// and nothing twice.
    ///
    /// # Errors
    /// When the box does not run, or its shim can't be asked.
    pub async fn replay(&self, listed: &Listed) -> Result<Attached, Error> {
        let (reader, writer) = self.streams(listed, &Request::Replay).await?;
        Ok(Attached { reader, writer })
    }

    /// Gives main's terminal another size.
    ///
    /// # Errors
    /// When the shim can't be asked. That it has gone is none: then the box has ended.
    pub async fn resize(&self, dir: &BoxDir, size: WindowSize) -> Result<(), Error> {
        self.tell(dir, &Request::Resize { size }).await
    }

    /// The box that this process has started is to stay when this process goes.
    ///
    /// # Errors
    /// When the shim can't be asked.
    pub async fn release(&self, dir: &BoxDir) -> Result<(), Error> {
        self.tell(dir, &Request::Release).await?;
        self.attachments.remove(dir.id());
        Ok(())
    }
}
