//! Starts a QEMU with its connections, for `template::bake` and `restore` alike: they must not differ
//! in more than they have to.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use boxwood_types::Shape;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::accel::Accelerator;
use crate::command::{self, Connections, DiskDurability, Start};
use crate::confine::QemuUser;
use crate::disk::Disk;
use crate::error::Error;
use crate::process::{self, Process, SpawnRequest};
use crate::qmp::{Command, Pending, Qmp};

/// A QEMU that was started and waits for its RAM.
pub(crate) struct Launched {
    pub(crate) process: Process,
    pub(crate) qmp: Qmp,
    pub(crate) channel: UnixStream,
    pub(crate) listener: OwnedFd,
}

/// What [`Launched::launch`] needs.
pub(crate) struct Parts<'a> {
    pub(crate) engine: &'a Path,
    pub(crate) accelerator: Accelerator,
    pub(crate) machine: &'a [String],
    pub(crate) shape: Shape,
    pub(crate) start: Start<'a>,
    pub(crate) files: Files<'a>,
}

/// What a VM reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct Files<'a> {
    pub(crate) image: &'a File,
    pub(crate) disk: &'a Disk,
    pub(crate) durability: DiskDurability,
    pub(crate) console: &'a File,
    pub(crate) user: QemuUser,
    /// Descriptors that the command line names besides.
    pub(crate) boot: &'a [File],
}

impl Launched {
    /// Starts QEMU with sockets for its control connection and its channel.
    pub(crate) fn launch(parts: Parts<'_>) -> Result<Self, Error> {
        let socket = Error::prepare("a socket");
        let (control, control_end) = StdUnixStream::pair().map_err(&socket)?;
        let (channel, channel_end) = StdUnixStream::pair().map_err(&socket)?;
        let files = parts.files;
        let below: Vec<_> = files.disk.below.iter().map(AsRawFd::as_raw_fd).collect();
        let connections = Connections {
            control: control_end.as_raw_fd(),
            channel: channel_end.as_raw_fd(),
            console: files.console.as_raw_fd(),
            image: files.image.as_raw_fd(),
            disk: files.disk.top.as_raw_fd(),
            below: &below,
            durability: files.durability,
        };
        let arguments = command::arguments(parts.machine, parts.shape, parts.start, connections);
        let mut descriptors = vec![
            control_end.as_fd(),
            channel_end.as_fd(),
            files.console.as_fd(),
            files.image.as_fd(),
            files.disk.top.as_fd(),
        ];
        descriptors.extend(files.disk.below.iter().map(AsFd::as_fd));
        descriptors.extend(files.boot.iter().map(AsFd::as_fd));
        let device = match parts.accelerator {
            Accelerator::Kvm => Some(Path::new("/dev/kvm")),
            Accelerator::Tcg => None,
        };
        let (process, listener) = process::spawn(SpawnRequest {
            program: parts.engine,
            arguments: &arguments,
            descriptors: &descriptors,
            user: files.user,
            device,
        })?;
        let qmp = Qmp::new(control, process.pid()).map_err(&socket)?;
        channel.set_nonblocking(true).map_err(&socket)?;
        let channel = UnixStream::from_std(channel).map_err(&socket)?;
        Ok(Launched { process, qmp, channel, listener })
    }
}

/// What every QEMU is told first.
pub(crate) async fn greet(qmp: &mut Qmp) -> Result<[Pending; 2], Error> {
    // The RAM is shared or private by the command line, so it is not part of the state; and the end
    // of a migration is to be an event.
    let on = |capability: &str| json!({ "capability": capability, "state": true });
    let capabilities = json!({ "capabilities": [on("x-ignore-shared"), on("events")] });
    Ok([
        qmp.send(Command::plain("qmp_capabilities")).await?,
        qmp.send(Command::with("migrate-set-capabilities", capabilities)).await?,
    ])
}

/// QEMU's words about a migration that failed.
pub(crate) async fn why_migration_failed(qmp: &mut Qmp) -> String {
    let answer = qmp.execute(Command::plain("query-migrate")).await.unwrap_or_default();
    let words = answer.get("error-desc").and_then(Value::as_str);
    words.unwrap_or("it does not say why").chars().take(1000).collect()
}
