//! `top`: what a box's guest says about it: its processes, and what it has counted.

use std::time::Duration;

use boxwood_state::control::{BoxProcess, Counted, Reply, Request, Subject};

use crate::shim_client::{self, FromShim};
use crate::wait::{ANSWER, in_time};
use crate::{Error, Listed, Runtime};

/// The processes of a box, as its guest lists them.
#[derive(Clone, Debug)]
pub struct Processes {
    /// By their ids.
    pub processes: Vec<BoxProcess>,
    /// How many more there are.
    pub more: u32,
}

impl Runtime {
    /// The processes of a running box.
    ///
    /// # Errors
    /// When it does not run, or its guest does not answer.
    pub async fn top(&self, listed: &Listed) -> Result<Processes, Error> {
        match self.report(listed, Subject::Processes, ANSWER).await? {
            Reply::Processes { processes, more } => Ok(Processes { processes, more }),
            _ => Err(Error::ShimProtocol { id: listed.spec.id.clone() }),
        }
    }

    /// What the guest of a running box has counted since the box started.
    ///
    /// # Errors
    /// When it does not run, or its guest does not answer within that time.
    pub async fn counted(&self, listed: &Listed, within: Duration) -> Result<Counted, Error> {
        match self.report(listed, Subject::Counters, within).await? {
            Reply::Counters { counters } => Ok(counters),
            _ => Err(Error::ShimProtocol { id: listed.spec.id.clone() }),
        }
    }

    async fn report(&self, listed: &Listed, of: Subject, within: Duration) -> Result<Reply, Error> {
        let (id, state) = (&listed.spec.id, listed.record.state);
        let not_running = || {
            let hint = "only a box that runs can be looked into";
            Error::WrongState { id: id.clone(), state, hint }
        };
        if !state.is_live() {
            return Err(not_running());
        }
        let asked = shim_client::ask(&listed.dir, &Request::Report { of }).await?;
        let Some((mut reader, _writer)) = asked else { return Err(not_running()) };
        match in_time(&listed.dir, within, reader.next()).await? {
            Some(FromShim::Reply(Reply::Refused { state, message })) => {
                Err(Error::Refused { id: id.clone(), state, message })
            }
            Some(FromShim::Reply(Reply::Ended { .. })) | None => Err(not_running()),
            Some(FromShim::Reply(reply)) => Ok(reply),
            Some(_) => Err(Error::ShimProtocol { id: id.clone() }),
        }
    }
}
