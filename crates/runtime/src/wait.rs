//! `wait`: until a box has ended.

use std::time::Duration;

use boxwood_state::control::Request;
use boxwood_state::{BoxDir, ExitRecord, failpoint};
use boxwood_types::BoxState;

use crate::shim_client::Heard;
use crate::{Error, Listed, Runtime, shim_client};

/// For who waits for a box to end by itself: a year.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(31_536_000);
/// What a shim that is alive answers within.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// What QEMU may take to stop or to go on, and its shim to say so.
pub(crate) const PAUSE: Duration = Duration::from_secs(20);
/// What a shim needs at most to end a VM: main's last words, then a VM that dies slowly; with some
/// to spare.
pub(crate) const END: Duration = Duration::from_secs(25);
/// What those who only look wait for a box that is about to have ended.
const SETTLE: Duration = Duration::from_secs(2);
/// What a guest and its shim need at most, beyond the grace it was given, until a box that is asked
/// to end has ended: see the shim's policy.
pub(crate) const LEAVE: Duration = Duration::from_secs(70).saturating_add(END);

/// Waits for a shim's answer; one that does not come leaves everything as it is (contract H3).
pub(crate) async fn in_time<T>(
    dir: &BoxDir,
    within: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(within, answer).await {
        Ok(result) => result,
        Err(_) => Err(no_answer(dir, within)),
    }
}

/// Whose processes should have answered.
pub(crate) fn no_answer(dir: &BoxDir, within: Duration) -> Error {
    let record = dir.record().ok();
    let shim = record.as_ref().and_then(|record| record.shim.as_ref()).map(|shim| shim.pid);
    let vmm = record.and_then(|record| record.vmm_pid);
    Error::NoAnswer { id: dir.id().clone(), within, shim, vmm }
}

impl Runtime {
    /// Waits until the main of a box has ended and says how. Returns at once for one that has. Main's
    /// result is written down by then; its VM may still be ending, for which [`remove`](Self::remove) and
    /// [`hold_again`](Self::hold_again) wait.
    ///
    /// # Errors
    /// When the box was never started, or vanished without anybody knowing its result.
    pub async fn wait(&self, listed: Listed) -> Result<ExitRecord, Error> {
        if listed.record.state == BoxState::Created {
            let hint = "it was never started, so there is nothing to wait for";
            let (id, state) = (listed.spec.id, listed.record.state);
            return Err(Error::WrongState { id, state, hint });
        }
        if !listed.record.state.is_live() {
            return listed.record.exit.ok_or(Error::ShimLost { id: listed.spec.id });
        }
        self.ask_and_wait(&listed.dir, &Request::Result, FOR_EVER).await
    }

    /// Waits for the end of a box whose main has ended. Any other stays as it is.
    pub(crate) async fn let_end(&self, listed: Listed) -> Result<Listed, Error> {
        let record = &listed.record;
        if record.state != BoxState::Stopping || record.exit.is_none() {
            return Ok(listed);
        }
        match self.ask_and_wait(&listed.dir, &Request::Wait, LEAVE).await {
            // It was to be removed at its end, and has been.
            Err(Error::ShimLost { .. }) if !listed.dir.path().exists() => return Ok(listed),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let again = self.home.get(&listed.spec.id)?.map(|dir| self.read(dir)).transpose()?;
        Ok(again.flatten().unwrap_or(listed))
    }

    /// Boxes whose mains have ended, as they are when they have ended themselves, which is a moment later:
    /// who has heard a result by [`wait`](Self::wait) finds nothing that is still ending. What takes
    /// unusually long is left as it is.
    pub async fn settle(&self, boxes: Vec<Listed>) -> Vec<Listed> {
        let mut settled = Vec::with_capacity(boxes.len());
        let end = tokio::time::Instant::now() + SETTLE;
        for one in boxes {
            if one.record.state != BoxState::Stopping || one.record.exit.is_none() {
                settled.push(one);
                continue;
            }
            let id = one.spec.id.clone();
            let _ = tokio::time::timeout_at(end, self.let_end(one)).await;
            let now = self.home.get(&id).ok().flatten().map(|dir| self.read(dir));
            // One that can't be read any more is told of by the verb that needs it.
            settled.extend(now.and_then(Result::ok).flatten());
        }
        settled
    }

    /// Asks a box's shim for something that ends in the end of the box, and waits for that.
    pub(crate) async fn ask_and_wait(
        &self,
        dir: &BoxDir,
        request: &Request,
        within: Duration,
    ) -> Result<ExitRecord, Error> {
        self.ask_and_hear(dir, request, within).await.map(|heard| heard.exit)
    }

    /// The same for who leaves an end behind that others are to find: one that they will not is an error.
    pub(crate) async fn ask_and_see(
        &self,
        dir: &BoxDir,
        request: &Request,
        within: Duration,
    ) -> Result<ExitRecord, Error> {
        let Heard { exit, unwritten } = self.ask_and_hear(dir, request, within).await?;
        match unwritten {
            Some(why) => {
                Err(Error::EndUnwritten { id: dir.id().clone(), end: Box::new(exit), why })
            }
            None => Ok(exit),
        }
    }

    async fn ask_and_hear(
        &self,
        dir: &BoxDir,
        request: &Request,
        within: Duration,
    ) -> Result<Heard, Error> {
        let ended = async {
            let asked = match request {
                // That can take as long as the box lives, and its shim may stand still meanwhile.
                _ if within == FOR_EVER => shim_client::ask(dir, request).await?,
                _ => shim_client::ask_watched(dir, request).await?,
            };
            failpoint("end: shim asked");
            if let Some((mut reader, _writer)) = asked
                && let Some(heard) = reader.ended().await?
            {
                return Ok(heard);
            }
            // The shim hung up, so it has written the end down or has died; its lock tells when.
            let exit = self.end_without_shim(dir).await?;
            Ok(Heard { exit, unwritten: None })
        };
        in_time(dir, within, ended).await
    }

    /// How a box ended whose shim is gone or going.
    pub(crate) async fn end_without_shim(&self, dir: &BoxDir) -> Result<ExitRecord, Error> {
        let lost = || Error::ShimLost { id: dir.id().clone() };
        let path = dir.path().to_owned();
        // The wait for a lock is an event, but a blocking one.
        let waited = tokio::task::spawn_blocking(move || match BoxDir::open(&path)? {
            Some(dir) => dir.lock().map(drop),
            None => Ok(()),
        });
        match waited.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) if !dir.path().exists() => return Err(lost()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(lost()),
        }
        self.record(dir)?.and_then(|record| record.exit).ok_or_else(lost)
    }
}
