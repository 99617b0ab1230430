//! The half of making a template that starts when its guest runs: wait until it is idle, freeze it,
//! write down what it is, publish it. Called by `bake` and `mounted`, with the template's lock held.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use tokio::net::UnixStream;

use super::manifest::{Binding, Content, Manifest};
use super::verify::{Zeros, content};
use super::{Files, IdleError, discard};
use crate::error::Error;
use crate::host::hex;
use crate::launch::why_migration_failed;
use crate::process::{Limit, Process, VmStatus};
use crate::qmp::{Command, Qmp};

/// How many of the console's last lines are told.
pub(super) const CONSOLE_LINES: usize = 4;

/// Where a template is made.
pub(super) struct Place {
    pub(super) store: PathBuf,
    pub(super) fresh: Files,
    pub(super) finished: Files,
    pub(super) binding: Binding,
    pub(super) cache: Option<PathBuf>,
}

impl Place {
    /// An empty directory for the files.
    pub(super) fn clear(&self) -> Result<(), Error> {
        // What a killed baker left. Its QEMU has died with it.
        discard(&self.fresh.dir)?;
        fs::create_dir(&self.fresh.dir).map_err(Error::io("make", &self.fresh.dir))
    }

    /// Clears up after a failure, and finds the better words for it.
    pub(super) fn explain(&self, error: Error) -> Error {
        let ram = self.fresh.ram();
        // The next baker would do it, too.
        let _ = discard(&self.fresh.dir);
        match &error {
            // The memory is a sparse file: where there is no room for more of it, writing to it is a
            // SIGBUS.
            Error::VmDied { exit, .. } if exit.status == VmStatus::Signaled(libc::SIGBUS) => {
                Error::NoRoom { path: ram, source: Box::new(error) }
            }
            _ => error,
        }
    }

    /// Makes it visible, in the place of what was there.
    pub(super) fn publish(&self) -> Result<(), Error> {
        let (fresh, finished) = (&self.fresh.dir, &self.finished.dir);
        let failed = Error::io("publish", finished);
        let rename = |flags| renameat_with(CWD, fresh, CWD, finished, flags);
        if finished.exists() {
            rename(RenameFlags::EXCHANGE).map_err(|errno| failed(errno.into()))?;
            discard(fresh)?;
        } else {
            rename(RenameFlags::NOREPLACE).map_err(|errno| failed(errno.into()))?;
        }
        sync(&self.store)
    }
}

fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("write", dir))
}

/// What else a template for one image has.
pub(super) struct Mounted {
    /// The image's ID.
    pub(super) image: String,
    /// The box's disk.
    pub(super) disk: File,
}

/// What it was made with.
pub(super) struct Made {
    pub(super) binding: Binding,
    pub(super) tsc_khz: u64,
    pub(super) mark: [u8; 16],
}

/// The files of a template that is being made.
pub(super) struct Fresh {
    pub(super) ram: File,
    pub(super) state: File,
}

impl Fresh {
    /// Both empty.
    pub(super) fn create(files: &Files, memory_bytes: u64) -> Result<Self, Error> {
        let fresh = Fresh { ram: create(files.ram())?, state: create(files.state())? };
        fresh.ram.set_len(memory_bytes).map_err(Error::io("size", files.ram()))?;
        Ok(fresh)
    }

    /// Writes the manifest, and everything to the disk.
    pub(super) fn seal(
        self,
        mounted: Option<Mounted>,
        made: Made,
        files: &Files,
    ) -> Result<(), Error> {
        let read = |file: &File, path: PathBuf| -> Result<Content, Error> {
            let content = content(file, Zeros::Punch).map_err(Error::io("read", &path))?;
            // Nobody writes to it again, and any user of the store may restore it.
            file.set_permissions(Permissions::from_mode(0o444))
                .and_then(|()| file.sync_all())
                .map_err(Error::io("write", &path))?;
            Ok(content)
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let manifest = Manifest {
            binding: made.binding,
            tsc_khz: made.tsc_khz,
            made_unix_s: now.as_secs(),
            mark: hex(&made.mark),
            ram: read(&self.ram, files.ram())?,
            state: read(&self.state, files.state())?,
            disk: mounted.as_ref().map(|m| read(&m.disk, files.disk())).transpose()?,
            image: mounted.map(|mounted| mounted.image),
        };
        manifest.write(&files.manifest()).map_err(Error::io("write", files.manifest()))?;
        sync(&files.dir)
    }
}

/// A new file, for writing and reading back.
pub(super) fn create(path: PathBuf) -> Result<File, Error> {
    let options = File::options().read(true).write(true).create_new(true).clone();
    options.open(&path).map_err(Error::io("make", &path))
}

/// A VM whose guest is busy: booting, or mounting.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) qmp: Qmp,
    pub(super) channel: UnixStream,
}

impl Running {
    /// Waits for the guest's word. `doing` completes "QEMU was to".
    pub(super) async fn until_idle<F>(
        self,
        doing: &'static str,
        idle: F,
        limit: Limit,
    ) -> Result<Idling, Error>
    where
        F: AsyncFnOnce(&mut UnixStream) -> Result<(), IdleError>,
    {
        let Running { mut process, qmp, mut channel } = self;
        let idle = async { idle(&mut channel).await.map_err(Error::NotIdle) };
        process.during(doing, limit, idle).await?;
        Ok(Idling { process, qmp, _channel: channel })
    }
}

/// A VM with nothing to do. Its channel is frozen open and silent: so it is when the restored VM
/// begins to run, too, and the guest is told of no change. If it were closed, QEMU would tell the
/// restored guest of an opening, and what the host has sent can overtake that: the guest would read
/// a greeting, and then that nobody is there.
pub(super) struct Idling {
    process: Process,
    qmp: Qmp,
    _channel: UnixStream,
}

impl Idling {
    pub(super) async fn freeze(self, state: &File, limit: Limit) -> Result<Frozen, Error> {
        let Idling { mut process, mut qmp, _channel } = self;
        let written = async {
            qmp.execute(Command::plain("stop")).await?;
            qmp.execute(Command {
                name: "getfd",
                arguments: json!({ "fdname": "state" }),
                descriptor: Some(state.as_fd()),
            })
            .await?;
            qmp.execute(Command::with("migrate", json!({ "uri": "fd:state" }))).await?;
            qmp.migrated().await
        };
        let doing = "freeze the template";
        if !process.during(doing, limit, written).await? {
            let reason = why_migration_failed(&mut qmp).await;
            return Err(Error::Migration { pid: process.pid(), doing, reason });
        }
        Ok(Frozen { process, qmp, _channel })
    }
}

/// A VM whose state is written.
pub(super) struct Frozen {
    process: Process,
    qmp: Qmp,
    _channel: UnixStream,
}

impl Frozen {
    /// QEMU leaves by itself, so that all it has written is written.
    pub(super) async fn leave(self, limit: Limit) -> Result<(), Error> {
        let Frozen { mut process, mut qmp, _channel } = self;
        // It may be gone before it answers.
        let _ = qmp.execute(Command::plain("quit")).await;
        let pid = process.pid();
        let wedged = |_| Error::VmWedged { doing: "quit", pid, within: limit.within };
        tokio::time::timeout_at(limit.end, process.exited()).await.map_err(wedged).map(drop)
    }
}
