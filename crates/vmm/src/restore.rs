//! Makes a running VM out of a template, copy-on-write. Called by a shim, and by
//! `template` to make one template out of another.
//!
//! The steps are types, each made from the last one:
//! `Starting` (QEMU runs, confined) -> `Fed` (it has its RAM and takes commands) -> `Loaded` (the state
//! is in) -> `Thawed` (the vCPUs run). A step that fails, or is dropped, takes its QEMU with it.
//!
//! QEMU gets neither kernel nor initramfs: they are in the RAM already. And `cont` is always needed:
//! a template was stopped before it was frozen, and QEMU restores that, too.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::blocking::blocking;
use crate::command::{BOX_DISK_BYTES, DiskDurability, IMAGE_DISK_BYTES, Start};
use crate::confine::QemuUser;
use crate::disk::Disk;
use crate::error::Error;
use crate::launch::{Files, Launched, Parts, greet, why_migration_failed};
use crate::process::{Limit, Process};
use crate::qmp::{Command, Pending, Qmp};
use crate::ram;
use crate::snapshot::capture::Origin;
use crate::snapshot::{Delta, FreshMemory};
use crate::template::Template;
use crate::vm::{Timings, Vm};

/// Everything of a box that its VM needs.
#[derive(Debug)]
pub struct RestoreRequest {
    /// The image, opened read-only: [`IMAGE_DISK_BYTES`] long.
    pub image: File,
    /// The box's disk: [`BOX_DISK_BYTES`] long, as the guest sees it.
    pub disk: Disk,
    /// What becomes of the guest's flushes.
    pub durability: DiskDurability,
    /// Where the guest's console goes, opened write-only. The guest can write without end: a pipe
    /// of which somebody keeps the last bytes is the right thing.
    pub console: File,
    /// The user QEMU runs as.
    pub user: QemuUser,
    /// For a VM that is alive and wedged: how long the restore may take.
    pub within: Duration,
}

/// Restores a template. Returns when the vCPUs run; nothing was said on the channel.
///
/// To be called on a thread that lives as long as the process: QEMU dies with it.
///
/// # Errors
/// One for each step; a QEMU that ended is quoted.
pub async fn restore(template: &Template, request: RestoreRequest) -> Result<Vm, Error> {
    let limit = Limit::of(request.within);
    request.check()?;
    let binding = template.binding();
    let parts = Parts {
        engine: binding.engine.path(),
        accelerator: binding.accelerator,
        machine: &binding.machine,
        shape: binding.shape,
        start: Start::Incoming,
        files: Files {
            image: &request.image,
            disk: &request.disk,
            durability: request.durability,
            console: &request.console,
            user: request.user,
            boot: &[],
        },
    };
    let memory = Memory { state: template.open_state()?, ram: template.ram(), written: &[] };
    let Thawed { process, qmp, channel, timings } = thaw(parts, memory, limit).await?;
    let origin =
        Origin::template(template, request.durability).map_err(Error::prepare("its memory"))?;
    Ok(Vm::new((process, qmp, channel), timings, origin))
}

/// What a VM is made of besides its machine.
pub(crate) struct Memory<'a> {
    /// vCPUs and devices, to be read from the beginning.
    pub(crate) state: File,
    /// The guest's memory.
    pub(crate) ram: &'a File,
    /// What was captured since and is not in that, the oldest first.
    pub(crate) written: &'a [Arc<Delta>],
}

/// A QEMU whose vCPUs run.
pub(crate) struct Thawed {
    pub(crate) process: Process,
    pub(crate) qmp: Qmp,
    pub(crate) channel: UnixStream,
    pub(crate) timings: Timings,
}

/// Starts a QEMU, loads a state into it, and lets it run.
pub(crate) async fn thaw(
    parts: Parts<'_>,
    memory: Memory<'_>,
    limit: Limit,
) -> Result<Thawed, Error> {
    let starting = Starting::start(parts, Clock(Instant::now()))?;
    let fed = starting.feed(memory, limit).await?;
    let loaded = fed.load(limit).await?;
    loaded.run(limit).await
}

impl RestoreRequest {
    pub(crate) fn check(&self) -> Result<(), Error> {
        access("image", &self.image, OFlags::RDONLY, "read-only")?;
        access("disk", &self.disk.top, OFlags::RDWR, "for reading and writing")?;
        access("console", &self.console, OFlags::WRONLY, "write-only")?;
        length("image", &self.image, IMAGE_DISK_BYTES)?;
        // An overlay has a length of its own, and says how long the disk is; QEMU compares that.
        let raw = self.disk.below.first().unwrap_or(&self.disk.top);
        length("disk", raw, BOX_DISK_BYTES)?;
        self.disk
            .below
            .iter()
            .try_for_each(|layer| access("a layer of the disk", layer, OFlags::RDONLY, "read-only"))
    }
}

/// QEMU takes a descriptor only if it is opened for just what it wants to do with it.
fn access(
    file: &'static str,
    opened: &File,
    as_: OFlags,
    needs: &'static str,
) -> Result<(), Error> {
    let flags = rustix::fs::fcntl_getfl(opened).map_err(Error::prepare(file))?;
    if flags & OFlags::RWMODE == as_ { Ok(()) } else { Err(Error::WrongAccess { file, needs }) }
}

/// The guest has known the sizes of its disks since before it was frozen.
fn length(file: &'static str, opened: &File, needs: u64) -> Result<(), Error> {
    let is = opened.metadata().map_err(Error::prepare(file))?.len();
    if is == needs { Ok(()) } else { Err(Error::WrongSize { file, is, needs }) }
}

#[derive(Clone, Copy)]
struct Clock(Instant);

/// A QEMU that has been started for a restore.
struct Starting {
    launched: Launched,
    clock: Clock,
    timings: Timings,
}

impl Starting {
    fn start(parts: Parts<'_>, clock: Clock) -> Result<Starting, Error> {
        let launched = Launched::launch(parts)?;
        let timings = Timings { spawned: clock.0.elapsed(), ..Timings::default() };
        Ok(Starting { launched, clock, timings })
    }
}

/// A QEMU that has its RAM and was told to load the state.
struct Fed {
    process: Process,
    qmp: Qmp,
    channel: UnixStream,
    ahead: Vec<Pending>,
    clock: Clock,
    timings: Timings,
}

impl Starting {
    /// Tells QEMU everything ahead of time, then hands it its RAM.
    async fn feed(self, memory: Memory<'_>, limit: Limit) -> Result<Fed, Error> {
        let Starting { launched, clock, mut timings } = self;
        let Launched { mut process, mut qmp, channel, listener } = launched;
        let ahead = async {
            let mut ahead = Vec::from(greet(&mut qmp).await?);
            if memory.written.is_empty() {
                ahead.extend(order_load(&mut qmp, &memory.state).await?);
            }
            Ok(ahead)
        };
        let ahead = process.during("take its orders", limit, ahead).await?;
        ram::give(&mut process, listener, memory.ram, limit).await?;
        timings.ram = clock.0.elapsed();
        let fed = Fed { process, qmp, channel, ahead, clock, timings };
        if memory.written.is_empty() { Ok(fed) } else { fed.write(memory, limit).await }
    }
}

/// Tells QEMU to load its state.
async fn order_load(qmp: &mut Qmp, state: &File) -> Result<[Pending; 2], Error> {
    let getfd = Command {
        name: "getfd",
        arguments: json!({ "fdname": "state" }),
        descriptor: Some(state.as_fd()),
    };
    let from_state = json!({ "uri": "fd:state" });
    Ok([qmp.send(getfd).await?, qmp.send(Command::with("migrate-incoming", from_state)).await?])
}

/// A QEMU whose VM is complete and stands still.
struct Loaded(Fed);

impl Fed {
    /// Writes what was captured into a VM that is being made, and only then has its state loaded: devices look
    /// at the memory when they are.
    async fn write(mut self, memory: Memory<'_>, limit: Limit) -> Result<Fed, Error> {
        let Fed { process, qmp, ahead, clock, timings, .. } = &mut self;
        let pid = process.pid();
        let failed = move |source| Error::FillMemory { pid, source };
        let answers = async |ahead: &mut Vec<Pending>| {
            for pending in ahead.drain(..) {
                pending.answer().await?;
            }
            Ok(())
        };
        process.during("map its RAM", limit, qmp.greeted()).await?;
        let mapped = match FreshMemory::find(pid, memory.ram) {
            Ok(mapped) => mapped,
            // Another version of it may greet first; when it takes orders, all of it is made.
            Err(_) => {
                process.during("take its orders", limit, answers(ahead)).await?;
                FreshMemory::find(pid, memory.ram).map_err(failed)?
            }
        };
        let written = memory.written.to_vec();
        let write = blocking(move || mapped.write(&written).map_err(failed));
        process.during("get its memory", limit, write).await?;
        process.during("take its orders", limit, answers(ahead)).await?;
        timings.ready = clock.0.elapsed();
        let order = order_load(qmp, &memory.state);
        ahead.extend(process.during("take its orders", limit, order).await?);
        Ok(self)
    }

    async fn load(mut self, limit: Limit) -> Result<Loaded, Error> {
        let Fed { process, qmp, ahead, clock, timings, .. } = &mut self;
        let answers = async {
            for (number, pending) in ahead.drain(..).enumerate() {
                pending.answer().await?;
                if number == 0 && timings.ready.is_zero() {
                    timings.ready = clock.0.elapsed();
                }
            }
            qmp.migrated().await
        };
        let pid = process.pid();
        if !process.during("load the template", limit, answers).await? {
            let reason = why_migration_failed(qmp).await;
            return Err(Error::Migration { pid, doing: "load the template", reason });
        }
        timings.loaded = clock.0.elapsed();
        Ok(Loaded(self))
    }
}

impl Loaded {
    async fn run(self, limit: Limit) -> Result<Thawed, Error> {
        let Loaded(Fed { mut process, mut qmp, channel, clock, mut timings, .. }) = self;
        process.during("run the VM", limit, qmp.execute(Command::plain("cont"))).await?;
        timings.running = clock.0.elapsed();
        Ok(Thawed { process, qmp, channel, timings })
    }
}

#[cfg(test)]
mod tests;
