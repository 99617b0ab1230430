//! Bakes a template: boots a VM, waits until its guest is idle, freezes it. Called by `template`, with
//! the template's lock held.
//!
//! The guest writes its memory right into the file that boxes map later. All is made in a directory
//! that nobody looks at, checked in full, forced to the disk, and only then renamed to what it is.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, MemfdFlags, RenameFlags, memfd_create, renameat_with};
use serde_json::json;
use tokio::net::UnixStream;

use super::manifest::{Binding, Content, Manifest};
use super::verify::{Zeros, content};
use super::{BakeRequest, Files, IdleError, discard};
use crate::command::{self, BOX_DISK_BYTES, DiskDurability, IMAGE_DISK_BYTES, Start};
use crate::confine::QemuUser;
use crate::error::Error;
use crate::host;
use crate::launch::{self, Launched, Parts, greet, why_migration_failed};
use crate::process::{Limit, Process, VmStatus};
use crate::qmp::{Command, Qmp};
use crate::ram;
use crate::tail::Tail;

/// How many of the console's last lines are told.
const CONSOLE_LINES: usize = 4;

/// Where a template is made.
pub(super) struct Place {
    pub(super) store: PathBuf,
    pub(super) fresh: Files,
    pub(super) finished: Files,
    pub(super) binding: Binding,
    pub(super) cache: Option<PathBuf>,
}

/// Bakes and publishes.
pub(super) async fn bake<F>(place: &Place, request: &BakeRequest<'_>, idle: F) -> Result<(), Error>
where
    F: AsyncFnOnce(&mut UnixStream) -> Result<(), IdleError>,
{
    // What a killed baker left. Its QEMU has died with it.
    discard(&place.fresh.dir)?;
    fs::create_dir(&place.fresh.dir).map_err(Error::io("make", &place.fresh.dir))?;
    let (console, console_end) = Tail::open().map_err(Error::prepare("a pipe"))?;
    let result = fill(place, request, idle, File::from(console_end)).await;
    if result.is_err() {
        // The next baker would do it, too.
        let _ = discard(&place.fresh.dir);
    }
    result.map_err(|source| Error::Bake {
        shape: request.shape,
        accelerator: request.accelerator,
        console: console.last_lines(CONSOLE_LINES),
        source: Box::new(explain(source, &place.fresh)),
    })
}

/// The memory is a sparse file: where there is no room for more of it, writing to it is a SIGBUS.
fn explain(error: Error, files: &Files) -> Error {
    match &error {
        Error::VmDied { exit, .. } if exit.status == VmStatus::Signaled(libc::SIGBUS) => {
            Error::NoRoom { path: files.ram(), source: Box::new(error) }
        }
        _ => error,
    }
}

async fn fill<F>(
    place: &Place,
    request: &BakeRequest<'_>,
    idle: F,
    console: File,
) -> Result<(), Error>
where
    F: AsyncFnOnce(&mut UnixStream) -> Result<(), IdleError>,
{
    let limit = Limit::of(request.within);
    let cache = place.cache.as_ref().unwrap_or(&place.store);
    let tsc_khz = host::tsc_khz(cache)?;
    let boot = open_boot_files(request).await?;
    let files = Fresh::create(&place.fresh, request.shape.memory_bytes())?;
    let booting = Booting::start(&place.binding, boot, console, tsc_khz)?;
    let running = booting.feed(&files.ram, limit).await?;
    let idling = running.until_idle(idle, limit).await?;
    let frozen = idling.freeze(&files.state, limit).await?;
    frozen.leave(limit).await?;
    let (binding, fresh) = (place.binding.clone(), place.fresh.clone());
    blocking(move || files.seal(binding, tsc_khz, &fresh)).await?;
    publish(place)
}

/// Runs what reads and writes much where it holds nobody up.
async fn blocking<T, F>(work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let lost = Error::prepare("a thread");
    tokio::task::spawn_blocking(work).await.map_err(|error| lost(io::Error::other(error)))?
}

/// Opens kernel and initramfs, and makes sure that they are what the key says.
async fn open_boot_files(request: &BakeRequest<'_>) -> Result<[File; 2], Error> {
    let boot = request.boot.clone();
    blocking(move || {
        let open = |path: &Path, said: &str| {
            let mut file = File::open(path).map_err(Error::io("open", path))?;
            let is = sha256(&mut file).map_err(Error::io("read", path))?;
            if is == said {
                Ok(file)
            } else {
                Err(Error::BootFileChanged { path: path.to_owned() })
            }
        };
        Ok([
            open(&boot.vmlinux, &boot.vmlinux_sha256)?,
            open(&boot.initramfs, &boot.initramfs_sha256)?,
        ])
    })
    .await
}

fn sha256(file: &mut File) -> io::Result<String> {
    use sha2::{Digest, Sha256};
    use std::io::Read;

    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(host::hex(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

/// The files of a template that is being made.
struct Fresh {
    ram: File,
    state: File,
}

impl Fresh {
    fn create(files: &Files, memory_bytes: u64) -> Result<Self, Error> {
        let create = |path: PathBuf| {
            let options = File::options().read(true).write(true).create_new(true).clone();
            options.open(&path).map_err(Error::io("make", &path))
        };
        let fresh = Fresh { ram: create(files.ram())?, state: create(files.state())? };
        fresh.ram.set_len(memory_bytes).map_err(Error::io("size", files.ram()))?;
        Ok(fresh)
    }

    /// Writes the manifest, and everything to the disk.
    fn seal(self, binding: Binding, tsc_khz: u64, files: &Files) -> Result<(), Error> {
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
            binding,
            tsc_khz,
            made_unix_s: now.as_secs(),
            ram: read(&self.ram, files.ram())?,
            state: read(&self.state, files.state())?,
        };
        manifest.write(&files.manifest()).map_err(Error::io("write", files.manifest()))?;
        sync(&files.dir)
    }
}

/// Makes it visible, in the place of what was there.
fn publish(place: &Place) -> Result<(), Error> {
    let (fresh, finished) = (&place.fresh.dir, &place.finished.dir);
    let failed = Error::io("publish", finished);
    let rename = |flags| renameat_with(CWD, fresh, CWD, finished, flags);
    if finished.exists() {
        rename(RenameFlags::EXCHANGE).map_err(|errno| failed(errno.into()))?;
        discard(fresh)?;
    } else {
        rename(RenameFlags::NOREPLACE).map_err(|errno| failed(errno.into()))?;
    }
    sync(&place.store)
}

fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("write", dir))
}

/// A QEMU that was started and waits for its RAM.
struct Booting(Launched);

impl Booting {
    fn start(
        binding: &Binding,
        boot: [File; 2],
        console: File,
        tsc_khz: u64,
    ) -> Result<Self, Error> {
        let disks = [placeholder(IMAGE_DISK_BYTES)?, placeholder(BOX_DISK_BYTES)?];
        // Another descriptor of the same file, that can't write.
        let path = format!("/proc/self/fd/{}", disks[0].as_raw_fd());
        let image = File::open(path).map_err(Error::prepare("a disk"))?;
        let launched = Launched::launch(Parts {
            engine: binding.engine.path(),
            accelerator: binding.accelerator,
            machine: &binding.machine,
            shape: binding.shape,
            start: Start::Boot {
                vmlinux: boot[0].as_raw_fd(),
                initramfs: boot[1].as_raw_fd(),
                kernel_arguments: &command::kernel_arguments(
                    binding.accelerator,
                    binding.shape,
                    tsc_khz,
                ),
            },
            files: launch::Files {
                image: &image,
                disk: &disks[1],
                durability: DiskDurability::Scratch,
                console: &console,
                // It runs nothing but our own kernel and guest.
                user: QemuUser::Same,
                boot: &boot,
            },
        })?;
        Ok(Booting(launched))
    }

    async fn feed(self, ram: &File, limit: Limit) -> Result<Running, Error> {
        let Launched { mut process, mut qmp, channel, listener } = self.0;
        let greeted = process.during("take its orders", limit, greet(&mut qmp)).await?;
        ram::give(&mut process, listener, ram, limit).await?;
        let boots = async {
            for pending in greeted {
                pending.answer().await?;
            }
            qmp.execute(Command::plain("cont")).await.map(drop)
        };
        process.during("boot", limit, boots).await?;
        Ok(Running { process, qmp, channel })
    }
}

/// A disk for a guest that does not use it yet.
fn placeholder(bytes: u64) -> Result<File, Error> {
    let failed = Error::prepare("a disk");
    let disk = memfd_create("boxwood-disk", MemfdFlags::CLOEXEC);
    let disk = File::from(disk.map_err(|errno| failed(errno.into()))?);
    disk.set_len(bytes).map_err(failed)?;
    Ok(disk)
}

/// A VM that boots.
struct Running {
    process: Process,
    qmp: Qmp,
    channel: UnixStream,
}

impl Running {
    async fn until_idle<F>(self, idle: F, limit: Limit) -> Result<Idling, Error>
    where
        F: AsyncFnOnce(&mut UnixStream) -> Result<(), IdleError>,
    {
        let Running { mut process, qmp, mut channel } = self;
        let idle = async { idle(&mut channel).await.map_err(Error::NotIdle) };
        process.during("boot its guest", limit, idle).await?;
        Ok(Idling { process, qmp, _channel: channel })
    }
}

/// A VM with nothing to do. Its channel is frozen open and silent: so it is when the restored VM
/// begins to run, too, and the guest is told of no change. If it were closed, QEMU would tell the
/// restored guest of an opening, and what the host has sent can overtake that: the guest would read
/// a greeting, and then that nobody is there.
struct Idling {
    process: Process,
    qmp: Qmp,
    _channel: UnixStream,
}

impl Idling {
    async fn freeze(self, state: &File, limit: Limit) -> Result<Frozen, Error> {
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
struct Frozen {
    process: Process,
    qmp: Qmp,
    _channel: UnixStream,
}

impl Frozen {
    /// QEMU leaves by itself, so that all it has written is written.
    async fn leave(self, limit: Limit) -> Result<(), Error> {
        let Frozen { mut process, mut qmp, _channel } = self;
        // It may be gone before it answers.
        let _ = qmp.execute(Command::plain("quit")).await;
        let pid = process.pid();
        let wedged = |_| Error::VmWedged { doing: "quit", pid, within: limit.within };
        tokio::time::timeout_at(limit.end, process.exited()).await.map_err(wedged).map(drop)
    }
}
