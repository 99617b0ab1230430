//! A running VM, as its shim owns it. Made by `restore`.

use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use crate::error::Error;
use crate::process::{Ended, Identity, Limit, Process, VmExit};
use crate::qmp::{Command, Qmp};
use crate::snapshot::capture::{self, Origin};
use crate::snapshot::{CaptureRequest, Captured};
use crate::stand_still::StandStill;

/// How long QEMU may take to stop or to go on.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the steps of a restore were done, counted from its beginning. Steps overlap: QEMU is told
/// what to do while it still starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// QEMU was started: fork, confinement, exec.
    pub spawned: Duration,
    /// It had its RAM.
    pub ram: Duration,
    /// It took commands.
    pub ready: Duration,
    /// The state was loaded.
    pub loaded: Duration,
    /// The vCPUs ran.
    pub running: Duration,
}

/// A VM. Dropped, it is killed.
#[derive(Debug)]
pub struct Vm {
    process: Process,
    qmp: Qmp,
    channel: Option<UnixStream>,
    timings: Timings,
    origin: Origin,
    still: StandStill,
}

impl Vm {
    pub(crate) fn new(
        (process, qmp, channel): (Process, Qmp, UnixStream),
        timings: Timings,
        origin: Origin,
    ) -> Self {
        let still = StandStill::default();
        Vm { process, qmp, channel: Some(channel), timings, origin, still }
    }

    /// The host's end of the channel, once. Nothing was said on it yet: the guest answers when it
    /// is greeted.
    pub fn take_channel(&mut self) -> Option<UnixStream> {
        self.channel.take()
    }

    /// Puts the channel back, for another to take.
    pub fn return_channel(&mut self, channel: UnixStream) {
        self.channel = Some(channel);
    }

    /// QEMU's pid.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What recognizes QEMU after this process is gone.
    ///
    /// # Errors
    /// When it has ended.
    pub fn identity(&self) -> Result<Identity, Error> {
        Identity::of(self.process.pid())
    }

    /// How long the steps of its start took.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The last lines of QEMU's error messages, joined.
    pub fn words(&self) -> String {
        self.process.words()
    }

    /// Waits until QEMU has ended and was reaped. May be dropped and called again.
    pub async fn exited(&mut self) -> VmExit {
        self.process.exited().await
    }

    /// Stops the vCPUs; the guest sees no time pass in the meantime: see
    /// [`take_stood_still`](Self::take_stood_still).
    ///
    /// # Errors
    /// When QEMU does not do it within 10 s, or has ended.
    pub async fn pause(&mut self) -> Result<(), Error> {
        self.still.begins();
        let stopped = self.execute("pause the VM", "stop").await;
        if stopped.is_err() {
            self.still.forget();
            // Should it stop yet, then not for longer than it takes to hear this.
            let _ = self.qmp.send(Command::plain("cont")).await;
        }
        stopped
    }

    /// Lets the vCPUs run on.
    ///
    /// # Errors
    /// When QEMU does not do it within 10 s, or has ended.
    pub async fn resume(&mut self) -> Result<(), Error> {
        let ordered = Instant::now();
        self.execute("resume the VM", "cont").await?;
        self.still.ended(ordered);
        Ok(())
    }

    /// How long its vCPUs stood still, in pauses and captures, since this was asked last: by so much its
    /// clock is late.
    pub fn take_stood_still(&mut self) -> Duration {
        self.still.take()
    }

    /// Captures the VM into a directory while it stands still, and lets it go on. The guest must have
    /// made its disk whole, and nothing must be on its way on the channel (contract S2).
    ///
    /// # Errors
    /// When a step fails; the VM goes on as if nothing had been asked, unless it says otherwise, and the
    /// directory is to be thrown away.
    pub async fn capture(&mut self, request: CaptureRequest<'_>) -> Result<Captured, Error> {
        let Vm { process, qmp, origin, still, .. } = self;
        capture::capture((process, qmp), origin, still, request).await
    }

    /// Kills the VM and waits until it is gone: the one way a VM is ended (contract H3). What the
    /// guest has not flushed is lost, so ask the guest to leave first.
    ///
    /// # Errors
    /// [`Error::StillAlive`] when it is not gone in time; then nothing of the box may be touched.
    pub async fn end(&mut self, within: Duration) -> Result<Ended, Error> {
        self.process.end(within).await
    }

    async fn execute(&mut self, doing: &'static str, command: &'static str) -> Result<(), Error> {
        let Vm { process, qmp, .. } = self;
        let done = qmp.execute(Command::plain(command));
        process.during(doing, Limit::of(PATIENCE), done).await.map(drop)
    }
}
