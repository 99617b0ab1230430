//! Bakes a template: boots a VM, waits until its guest is idle, freezes it. Called by `template`, with
//! the template's lock held.
//!
//! The guest writes its memory right into the file that boxes map later. All is made in a directory
//! that nobody looks at, checked in full, forced to the disk, and only then renamed to what it is.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{getpriority_process, setpriority_process};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::freeze::{CONSOLE_LINES, Fresh, Made, Place, Running};
use super::manifest::Binding;
use super::{BakeRequest, IdleError, Progress};
use crate::blocking::blocking;
use crate::command::{self, BOX_DISK_BYTES, DiskDurability, IMAGE_DISK_BYTES, Start};
use crate::confine::QemuUser;
use crate::disk::Disk;
use crate::error::Error;
use crate::host;
use crate::launch::{self, Launched, Parts, greet};
use crate::process::Limit;
use crate::qmp::Command;
use crate::ram;
use crate::tail::Tail;

/// The nice value of who goes first (setpriority(2)).
const HIGHEST: i32 = -20;

/// Bakes and publishes. A guest that says so is followed by another, as long as there is time.
pub(super) async fn bake_until_it_boots<F>(
    place: &Place,
    request: &BakeRequest<'_>,
    idle: F,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error>
where
    F: AsyncFn(&mut UnixStream) -> Result<(), IdleError>,
{
    let end = Instant::now() + request.within;
    let (mut attempt, mut told) = (*request, false);
    loop {
        match bake(place, &attempt, &idle).await {
            Err(error) if asks_for_another(&error, request.again_if) && Instant::now() < end => {
                attempt.within = end.saturating_duration_since(Instant::now());
                if !std::mem::replace(&mut told, true) {
                    progress(Progress::Retrying);
                }
            }
            result => return result,
        }
    }
}

/// Whether these were the guest's last words.
fn asks_for_another(error: &Error, words: Option<&str>) -> bool {
    let Error::Bake { console, .. } = error else { return false };
    words.is_some_and(|words| console.contains(words))
}

/// Bakes and publishes.
async fn bake<F>(place: &Place, request: &BakeRequest<'_>, idle: F) -> Result<(), Error>
where
    F: AsyncFnOnce(&mut UnixStream) -> Result<(), IdleError>,
{
    place.clear()?;
    let (mut console, console_end) = Tail::open().map_err(Error::prepare("a pipe"))?;
    let result = fill(place, request, idle, File::from(console_end)).await;
    let Err(source) = result else { return Ok(()) };
    console.settle().await;
    Err(Error::Bake {
        shape: request.shape,
        accelerator: request.accelerator,
        console: console.last_words(CONSOLE_LINES),
        source: Box::new(place.explain(source)),
    })
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
    let idling = running.until_idle("boot its guest", idle, limit).await?;
    let frozen = idling.freeze(&files.state, limit).await?;
    frozen.leave(limit).await?;
    let made = Made { binding: place.binding.clone(), tsc_khz, mark: request.mark };
    let fresh = place.fresh.clone();
    blocking(move || files.seal(None, made, &fresh)).await?;
    place.publish()
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

/// While this lives, what this thread starts goes before all else on the host, if this user may ask for that.
/// A kernel that boots measures its timer, and gets it wrong when it has to wait for a CPU: it boots again
/// then, which takes longer than to be let through.
struct First {
    /// The thread's own nice value.
    was: i32,
}

impl First {
    fn begin() -> Option<First> {
        let was = getpriority_process(None).ok()?;
        setpriority_process(None, HIGHEST).ok()?;
        Some(First { was })
    }
}

impl Drop for First {
    fn drop(&mut self) {
        // Everybody may be nicer again.
        let _ = setpriority_process(None, self.was);
    }
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
        let [image, disk] = disks;
        let path = format!("/proc/self/fd/{}", image.as_raw_fd());
        let image = File::open(path).map_err(Error::prepare("a disk"))?;
        let disk = Disk::raw(disk);
        let _first = First::begin();
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
                disk: &disk,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_with_those_last_words_is_followed_by_another() {
        let failed = |console: &str| {
            let source = Box::new(Error::NotIdle("it hung up".into()));
            let (shape, accelerator) = (boxwood_types::Shape::default(), crate::Accelerator::Tcg);
            Error::Bake { shape, accelerator, console: console.to_owned(), source }
        };
        let mistimed = failed("x | can't trust it: y");
        assert!(asks_for_another(&mistimed, Some("trust it")));
        assert!(!asks_for_another(&mistimed, None));
        assert!(!asks_for_another(&failed("panic"), Some("trust it")));
    }

    #[test]
    fn who_went_first_goes_as_before_after_it() {
        let before = getpriority_process(None).unwrap();
        if let Some(first) = First::begin() {
            assert_eq!(getpriority_process(None).unwrap(), HIGHEST);
            drop(first);
        }
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
