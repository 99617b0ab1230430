//! `stats`: what boxes take of the host.

use std::time::Duration;

use boxwood_state::control::{Reply, Request, Usage};

use crate::shim_client::{self, FromShim};
use crate::wait::{ANSWER, in_time};
use crate::{Error, Listed, Runtime};

/// What a guest may take to count its processes.
const COUNT: Duration = Duration::from_secs(1);

impl Runtime {
    /// What a box's VM has taken of the host so far. `None` for a box that has none.
    ///
    /// # Errors
    /// When its shim can't be asked.
    pub async fn usage(&self, listed: &Listed) -> Result<Option<Usage>, Error> {
        if !listed.record.state.is_live() {
            return Ok(None);
        }
        let asked = shim_client::ask(&listed.dir, &Request::Usage).await?;
        let Some((mut reader, _writer)) = asked else { return Ok(None) };
        match in_time(&listed.dir, ANSWER, reader.next()).await? {
            Some(FromShim::Reply(Reply::Usage { usage })) => Ok(Some(usage)),
            Some(FromShim::Reply(Reply::Refused { .. } | Reply::Ended { .. })) | None => Ok(None),
            Some(_) => Err(Error::ShimProtocol { id: listed.spec.id.clone() }),
        }
    }

    /// How many processes run in a box, as its guest says; `None` where it does not.
    pub async fn processes(&self, listed: &Listed) -> Option<usize> {
        let found = tokio::time::timeout(COUNT, self.top(listed)).await.ok()?.ok()?;
        Some(found.processes.len() + found.more as usize)
    }
}
