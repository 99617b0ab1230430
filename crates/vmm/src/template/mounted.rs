//! Makes a template for one image out of the one of its shape: restores it with the image, lets the
//! guest mount the box's root file system, and freezes it again. Called by `template`, with the new
//! template's lock held.
//!
//! A box that starts from it mounts nothing. Its disk has to be a copy of the one that was mounted,
//! so that is a part of the template.

use std::fs::File;
use std::io;

use tokio::net::UnixStream;

use super::freeze::{self, CONSOLE_LINES, Fresh, Made, Mounted, Place, Running};
use super::{IdleError, Template};
use crate::blocking::blocking;
use crate::command::{DiskDurability, Start};
use crate::confine::QemuUser;
use crate::disk::Disk;
use crate::error::Error;
use crate::launch::{Files, Parts};
use crate::process::Limit;
use crate::restore::{self, Memory, Thawed};
use crate::sparse;
use crate::tail::Tail;

/// The most pieces a template's memory may be in: all its pages, each alone.
const MEMORY_EXTENTS: usize = 1 << 20;

/// What is to be mounted.
#[derive(Clone, Copy)]
pub struct MountRequest<'a> {
    /// The image, opened read-only.
    pub image: &'a File,
    /// What it is called in messages: its ID.
    pub image_id: &'a str,
    /// The digest of its block image.
    pub block_digest: &'a str,
    /// Makes an empty file a new box's disk.
    pub make_disk: &'a dyn Fn(&File) -> io::Result<()>,
    /// What the guest is given to keep, by who waits until it has mounted.
    pub mark: [u8; 16],
    /// The user QEMU runs as: its guest reads the image.
    pub user: QemuUser,
    /// For a VM that is alive and wedged: how long it may take.
    pub within: std::time::Duration,
}

/// Makes and publishes it.
pub(super) async fn make<F>(
    place: &Place,
    base: &Template,
    request: &MountRequest<'_>,
    mount: F,
) -> Result<(), Error>
where
    F: AsyncFnOnce(&mut UnixStream) -> Result<(), IdleError>,
{
    place.clear()?;
    let (mut console, console_end) = Tail::open().map_err(Error::prepare("a pipe"))?;
    let result = fill(place, (base, request), mount, File::from(console_end)).await;
    let Err(source) = result else { return Ok(()) };
    console.settle().await;
    Err(Error::Mount {
        image: request.image_id.to_owned(),
        console: console.last_words(CONSOLE_LINES),
        source: Box::new(place.explain(source)),
    })
}

async fn fill<F>(
    place: &Place,
    (base, request): (&Template, &MountRequest<'_>),
    mount: F,
    console: File,
) -> Result<(), Error>
where
    F: AsyncFnOnce(&mut UnixStream) -> Result<(), IdleError>,
{
    let limit = Limit::of(request.within);
    let binding = &place.binding;
    let files = Fresh::create(&place.fresh, binding.shape.memory_bytes())?;
    copy_memory(base.ram(), &files.ram).map_err(Error::io("write", place.fresh.ram()))?;
    let disk = freeze::create(place.fresh.disk())?;
    (request.make_disk)(&disk).map_err(Error::io("write", place.fresh.disk()))?;
    let disk = Disk::raw(disk);
    let parts = Parts {
        engine: binding.engine.path(),
        accelerator: binding.accelerator,
        machine: &binding.machine,
        shape: binding.shape,
        start: Start::Rework,
        files: Files {
            image: request.image,
            disk: &disk,
            // What counts is what can be read when it is done.
            durability: DiskDurability::Scratch,
            console: &console,
            user: request.user,
            boot: &[],
        },
    };
    let memory = Memory { state: base.open_state()?, ram: &files.ram, written: &[] };
    let thawed = restore::thaw(parts, memory, limit).await?;
    let Thawed { process, qmp, channel, .. } = thawed;
    let running = Running { process, qmp, channel };
    let idling = running.until_idle("mount its root", mount, limit).await?;
    let frozen = idling.freeze(&files.state, limit).await?;
    frozen.leave(limit).await?;
    let mounted = Some(Mounted { image: request.image_id.to_owned(), disk: disk.top });
    let made =
        Made { binding: binding.clone(), tsc_khz: base.manifest.tsc_khz, mark: request.mark };
    let fresh = place.fresh.clone();
    blocking(move || files.seal(mounted, made, &fresh)).await?;
    place.publish()
}

fn copy_memory(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    sparse::copy(from, &sparse::extents(from, MEMORY_EXTENTS)?, to, length)
}
