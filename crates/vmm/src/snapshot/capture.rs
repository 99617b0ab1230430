//! Captures a running VM: memory, devices and disk of one moment. Called by a shim, when the guest has
//! made its disk whole and fallen silent.
//!
//! QEMU writes the state of the devices; it would write all of the memory, too, since it maps that
//! privately. So it is told to save devices alone, and the pages that are the VM's own are read from
//! outside. The disk goes on as an overlay of what it was. All of that happens while the vCPUs stand
//! still; everything else before or after.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde_json::json;

use super::delta::{CHUNK, Delta, DeltaWriter, PAGE};
use super::own::OwnMemory;
use super::{FORMAT, Layers, MAX_DELTAS, Part, Paths, SKETCH, Sketch, link, link_or_copy};
use crate::command::{DISK_NODE, DiskDurability, FIRST_LATER_SET, overlay_node};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::host::hex;
use crate::process::{Limit, Process};
use crate::qmp::{Command, Qmp};
use crate::stand_still::StandStill;
use crate::template::{Binding, Template};

/// More than the devices of any VM take: 60 to 80 KB.
const STATE_ROOM: u64 = 512 << 10;

/// Captures of one VM that are stored as what has changed since; then all of it is stored again, so that
/// it can be captured as often as one likes.
const SEVERAL: usize = 16;
/// What a capture leaves of the room there is, in bytes: the box goes on writing.
const SPARE: u64 = 16 << 20;
/// How long a VM that does not answer may take to be killed.
const END: Duration = Duration::from_secs(10);

/// What is known of a VM that can be captured.
#[derive(Debug)]
pub(crate) struct Origin {
    binding: Binding,
    tsc_khz: u64,
    layers: Layers,
    /// What QEMU has mapped.
    ram: Arc<File>,
    durability: DiskDurability,
    /// What QEMU calls the disk that is written to.
    node: String,
    /// How many descriptors it was given since it started.
    later: u32,
}

impl Origin {
    /// Of a VM that began as a template.
    pub(crate) fn template(template: &Template, durability: DiskDurability) -> io::Result<Self> {
        let base = Arc::new(template.ram().try_clone()?);
        let layers = Layers {
            base: base.clone(),
            base_content: template.manifest().ram.clone(),
            deltas: Vec::new(),
            mapped: 0,
        };
        let (binding, tsc_khz) = (template.binding().clone(), template.manifest().tsc_khz);
        Ok(Self::new((binding, tsc_khz), layers, base, durability))
    }

    pub(super) fn new(
        (binding, tsc_khz): (Binding, u64),
        layers: Layers,
        ram: Arc<File>,
        durability: DiskDurability,
    ) -> Self {
        let node = DISK_NODE.to_owned();
        Origin { binding, tsc_khz, layers, ram, durability, node, later: 0 }
    }
}

/// What a capture needs.
pub struct CaptureRequest<'a> {
    /// An empty directory.
    pub directory: &'a Path,
    /// What is captured. Of the disk alone nothing comes into the directory: it is in `switch`'s hands.
    pub part: Part,
    /// What the guest was given to keep.
    pub mark: [u8; 16],
    /// What the disk is written to from then on: an empty overlay, opened for reading and writing.
    pub overlay: File,
    /// Gives the files of the disk their new names. Called while nothing is written; what was the disk
    /// becomes the layer below the overlay, so a crash at any moment leaves a disk that is right.
    pub switch: &'a mut dyn FnMut(DiskSwitch) -> io::Result<()>,
    /// How long it may take.
    pub within: Duration,
}

/// What becomes of the names of a box's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskSwitch {
    /// The disk is a layer, and the overlay the disk.
    Over,
    /// As before: QEMU did not take the overlay.
    Back,
}

/// What a capture came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// How long the vCPUs stood still.
    pub pause: Duration,
    /// How many pages were stored.
    pub pages: u64,
}

/// Captures a VM into a directory, and lets it run on.
pub(crate) async fn capture(
    (process, qmp): (&mut Process, &mut Qmp),
    origin: &mut Origin,
    stand_still: &mut StandStill,
    request: CaptureRequest<'_>,
) -> Result<Captured, Error> {
    let limit = Limit::of(request.within);
    let paths = Paths::of(request.directory);
    if origin.layers.deltas.len() - origin.layers.mapped >= SEVERAL {
        // All that is the VM's own is stored once more, and what comes later differs from that.
        origin.layers.deltas.truncate(origin.layers.mapped);
    }
    let memory = match request.part {
        Part::Everything => {
            let pid = process.pid();
            let own = OwnMemory::find(pid, &origin.ram).and_then(|memory| memory.own());
            let own = own.map_err(|source| Error::OwnMemory { pid, source })?;
            // All that takes room is there before the VM stands still, or found not to fit.
            link_older(&paths, &origin.layers, own.len() as u64 * PAGE as u64)?;
            Some(MemoryFiles::make(&paths, origin)?)
        }
        Part::Disk => None,
    };
    let mut sets = Sets { first: FIRST_LATER_SET + origin.later, added: 0 };
    let node = format!("disk{}", origin.later);
    origin.later += 2;

    let prepared = async {
        let set = sets.add(qmp, &request.overlay).await?;
        let overlay = overlay_node(&node, set, origin.durability);
        qmp.execute(Command::with("blockdev-add", overlay)).await?;
        let Some(files) = memory else { return Ok(None) };
        Ok(Some((sets.add(qmp, &files.state).await?, files)))
    };
    let memory = match process.during("take what it is captured with", limit, prepared).await {
        Ok(memory) => memory,
        Err(error) => {
            forget_overlay(qmp, &node).await;
            sets.forget(qmp).await;
            return Err(error);
        }
    };
    failpoint("capture: files made");
    let began = Instant::now();
    stand_still.begins();
    let stopped = process.during("stand still", limit, qmp.execute(Command::plain("stop"))).await;
    let result = match stopped {
        Ok(_) => {
            failpoint("capture: vm stands still");
            let still = Still { process, qmp, origin, limit };
            still.capture(&node, memory, request.switch).await
        }
        Err(error) => Err(error),
    };
    if let Err(wedged @ Error::VmWedged { .. }) = result {
        return Err(given_up(process, wedged).await);
    }
    stand_still.ended(Instant::now());
    let goes_on = process.during("go on", limit, qmp.execute(Command::plain("cont"))).await;
    let pause = began.elapsed();
    failpoint("capture: vm goes on");
    if let Err(error) = goes_on {
        return Err(given_up(process, error).await);
    }
    if result.is_err() {
        forget_overlay(qmp, &node).await;
    }
    sets.forget(qmp).await;
    let delta = result?;
    origin.node = node;
    let mut pages = 0;
    if let Some(delta) = delta {
        pages = delta.file().metadata().map_or(0, |meta| meta.len() / (PAGE as u64 + 4));
        origin.layers.deltas.push(Arc::new(delta));
        write_down(&paths, origin, request.mark)?;
    }
    Ok(Captured { pause, pages })
}

/// Ends a VM of which nobody knows any more whether it runs and what it writes to. Its disk is right: the
/// overlay is the disk by then, or was not touched.
async fn given_up(process: &mut Process, error: Error) -> Error {
    // That it could not be ended is found by who ends boxes.
    let _ = process.end(END).await;
    error
}

async fn forget_overlay(qmp: &mut Qmp, node: &str) {
    // What is not there can't be forgotten, and goes with QEMU.
    let _ = qmp.execute(Command::with("blockdev-del", json!({ "node-name": node }))).await;
}

/// What a memory and its devices are written to.
struct MemoryFiles {
    state: File,
    pages: File,
}

impl MemoryFiles {
    fn make(paths: &Paths, origin: &Origin) -> Result<Self, Error> {
        let number = origin.layers.deltas.len();
        if number >= MAX_DELTAS {
            return Err(Error::TooManyCaptures { limit: MAX_DELTAS });
        }
        let create = |path: std::path::PathBuf, read: bool| {
            let mut options = File::options();
            let made = options.read(read).write(true).create_new(true).open(&path);
            made.map_err(Error::io("make", &path))
        };
        let path = paths.named("state");
        let state = create(path.clone(), false)?;
        // QEMU does not tell that a disk is full. What it does not need is given back in `save`.
        if let Err(errno @ Errno::NOSPC) =
            fallocate(&state, FallocateFlags::KEEP_SIZE, 0, STATE_ROOM)
        {
            return Err(Error::io("write", path)(errno.into()));
        }
        Ok(MemoryFiles { state, pages: create(paths.delta(number), true)? })
    }
}

/// Descriptors that QEMU is given while it runs.
struct Sets {
    first: u32,
    added: u32,
}

impl Sets {
    async fn add(&mut self, qmp: &mut Qmp, file: &File) -> Result<u32, Error> {
        let set = self.first + self.added;
        let command = Command {
            name: "add-fd",
            arguments: json!({ "fdset-id": set }),
            descriptor: Some(file.as_fd()),
        };
        qmp.execute(command).await?;
        self.added += 1;
        Ok(set)
    }

    /// Closes QEMU's copies but for those that are in use.
    async fn forget(&self, qmp: &mut Qmp) {
        for set in self.first..self.first + self.added {
            // What is not closed goes with QEMU.
            let _ = qmp.execute(Command::with("remove-fd", json!({ "fdset-id": set }))).await;
        }
    }
}

/// A VM that stands still.
struct Still<'a> {
    process: &'a mut Process,
    qmp: &'a mut Qmp,
    origin: &'a Origin,
    limit: Limit,
}

impl Still<'_> {
    async fn capture(
        self,
        node: &str,
        memory: Option<(u32, MemoryFiles)>,
        switch: &mut dyn FnMut(DiskSwitch) -> io::Result<()>,
    ) -> Result<Option<Delta>, Error> {
        let Still { process, qmp, origin, limit } = self;
        let delta = match memory {
            Some(memory) => Some(save(process, qmp, origin, memory, limit).await?),
            None => None,
        };
        failpoint("capture: memory saved");
        let switched = Error::prepare("the files of the box's disk");
        switch(DiskSwitch::Over).map_err(&switched)?;
        failpoint("capture: files switched");
        let over = json!({ "node": origin.node, "overlay": node });
        let taken = qmp.execute(Command::with("blockdev-snapshot", over));
        match process.during("take a disk over its disk", limit, taken).await {
            Ok(_) => {}
            // It may yet do it, or have done it.
            Err(wedged @ Error::VmWedged { .. }) => return Err(wedged),
            Err(error) => {
                switch(DiskSwitch::Back).map_err(switched)?;
                return Err(error);
            }
        }
        failpoint("capture: overlay taken");
        Ok(delta)
    }
}

/// Saves the devices of a VM that stands still, and its pages at the same time.
async fn save(
    process: &mut Process,
    qmp: &mut Qmp,
    origin: &Origin,
    (set, MemoryFiles { state, pages }): (u32, MemoryFiles),
    limit: Limit,
) -> Result<Delta, Error> {
    let pid = process.pid();
    // Not `live`: that would give the disks up, too.
    let to = json!({ "filename": format!("/dev/fdset/{set}"), "live": false });
    let save = qmp.send(Command::with("xen-save-devices-state", to)).await?;
    let (ram, layers) = (origin.ram.clone(), origin.layers.clone());
    let stored = tokio::task::spawn_blocking(move || store(pid, &ram, &layers, pages));
    process.during("save its devices", limit, save.answer()).await?;
    // Room that stays taken does no harm.
    let _ = state.metadata().and_then(|meta| state.set_len(meta.len()));
    let failed = |source| Error::OwnMemory { pid, source };
    let delta = stored.await.map_err(|error| failed(io::Error::other(error)))?;
    delta.map_err(failed)
}

/// Writes the pages of a VM that are not in its layers.
fn store(pid: u32, ram: &File, layers: &Layers, file: File) -> io::Result<Delta> {
    let memory = OwnMemory::find(pid, ram)?;
    let own = memory.own()?;
    let mut writer = DeltaWriter::new(&file);
    let mut buffer = vec![0; CHUNK * PAGE];
    for pages in own.chunks(CHUNK) {
        let bytes = &mut buffer[..pages.len() * PAGE];
        memory.read(pages, bytes)?;
        let changed = changed(pages, bytes, &layers.deltas[layers.mapped..])?;
        writer.add(&changed, &bytes[..changed.len() * PAGE])?;
    }
    let pages = writer.finish()?;
    Ok(Delta::written(file, pages))
}

/// Which of the pages are not as they were captured last; their bytes are moved together.
fn changed(pages: &[u32], bytes: &mut [u8], captured: &[Arc<Delta>]) -> io::Result<Vec<u32>> {
    if captured.is_empty() {
        return Ok(pages.to_vec());
    }
    let mut before = [0; PAGE];
    let mut changed = Vec::with_capacity(pages.len());
    for (place, page) in pages.iter().enumerate() {
        let mut known = false;
        for delta in captured.iter().rev() {
            known = delta.read(*page, &mut before)?;
            if known {
                break;
            }
        }
        let at = place * PAGE;
        if !known || bytes[at..at + PAGE] != before {
            bytes.copy_within(at..at + PAGE, changed.len() * PAGE);
            changed.push(*page);
        }
    }
    Ok(changed)
}

/// Gives the directory what was there before, and makes sure that there is room for `more` bytes beside the
/// box, which writes on.
fn link_older(paths: &Paths, layers: &Layers, more: u64) -> Result<(), Error> {
    let link = |file: &File, path: std::path::PathBuf| {
        room(&paths.0, 0)?;
        if link(file, &path).is_ok() {
            return Ok(());
        }
        let takes = file.metadata().map_or(0, |meta| meta.blocks() * 512);
        room(&paths.0, takes)?;
        link_or_copy(file, &path).map_err(Error::io("make", path))
    };
    link(&layers.base, paths.named("base"))?;
    for (number, delta) in layers.deltas.iter().enumerate() {
        link(delta.file(), paths.delta(number))?;
    }
    room(&paths.0, more)
}

/// Whether so many bytes fit, and the box still has something to write to.
pub(super) fn room(dir: &Path, bytes: u64) -> Result<(), Error> {
    let failed = Error::io("write", dir);
    let free = rustix::fs::statvfs(dir).map_err(|errno| failed(errno.into()))?;
    match free.f_bavail * free.f_frsize >= bytes + SPARE {
        true => Ok(()),
        false => Err(failed(Errno::NOSPC.into())),
    }
}

/// Completes the directory with what it was captured with.
fn write_down(paths: &Paths, origin: &Origin, mark: [u8; 16]) -> Result<(), Error> {
    let Layers { base_content, deltas, .. } = &origin.layers;
    let sketch = Sketch {
        format: FORMAT,
        binding: origin.binding.clone(),
        tsc_khz: origin.tsc_khz,
        mark: hex(&mark),
        base: base_content.clone(),
        deltas: deltas.len(),
    };
    let path = paths.named(SKETCH);
    // Plain data with text keys always becomes JSON.
    let text = serde_json::to_vec_pretty(&sketch).unwrap_or_default();
    std::fs::write(&path, text).map_err(Error::io("write", path))
}
