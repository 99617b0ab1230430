//! A VM for a box: its template or its snapshot, restored with the box's disks. Called by `launch`.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use boxwood_state::{AfterExit, SnapshotMade, SnapshotRef, TemplateRef, failpoint};
use boxwood_types::chain;
use boxwood_vmm::snapshot::Frozen;
use boxwood_vmm::{Disk, DiskDurability, QemuUser, RestoreRequest, Template, Templates, Vm};
use boxwood_wire::preface::Mark;

use crate::main_io::Main;
use crate::supervisor::Supervisor;

/// How long a restore may take when QEMU is alive and wedged.
const RESTORE: Duration = Duration::from_secs(60);

/// A VM that runs, and what its guest is to know.
pub(crate) struct Restored {
    pub(crate) vm: Vm,
    /// What was frozen with it.
    pub(crate) mark: Option<Mark>,
    pub(crate) main: Main,
}

/// Restores what the box starts from, with the box's disks.
pub(crate) async fn restore_vm(supervisor: &Supervisor, console: File) -> Result<Restored, String> {
    let (spec, dir) = (&supervisor.spec, &supervisor.dir);
    let open_file = |path: &Path, options: &std::fs::OpenOptions| {
        options.open(path).map_err(|error| format!("can't open {}: {error}", path.display()))
    };
    let image = open_file(&spec.image.block, File::options().read(true))?;
    let files = dir.disk_files().map_err(|error| chain(&error))?;
    let top = open_file(&files.top, File::options().read(true).write(true))?;
    let below = files.below.iter().map(|path| open_file(path, File::options().read(true)));
    let disk = Disk { top, below: below.collect::<Result<_, String>>()? };
    // An id is random, so its beginning is a seed.
    let user = QemuUser::own(u32::from_str_radix(&spec.id.as_str()[..7], 16).unwrap_or_default());
    let durability = match spec.after_exit {
        AfterExit::Keep => DiskDurability::Flushed,
        AfterExit::Remove => DiskDurability::Scratch,
    };
    let request = RestoreRequest { image, disk, console, user, durability, within: RESTORE };
    let restored = match spec.snapshot.as_ref().filter(|_| supervisor.back_off.restarts() == 0) {
        Some(snapshot) => thaw(supervisor, snapshot, request).await?,
        None => start(supervisor, request).await?,
    };
    Ok(restored)
}

/// A VM in which main goes on.
async fn thaw(
    supervisor: &Supervisor,
    snapshot: &SnapshotRef,
    request: RestoreRequest,
) -> Result<Restored, String> {
    let frozen = match snapshot.made {
        SnapshotMade::Sealed => {
            Frozen::open(&snapshot.directory, &supervisor.spec.template.cache).await
        }
        SnapshotMade::Fresh => Frozen::open_fresh(&snapshot.directory).await,
    };
    let frozen = frozen.map_err(|error| chain(&error))?;
    supervisor.run.steps.mark("snapshot found");
    failpoint("shim: snapshot found");
    let mark = frozen.mark().map(Mark);
    let unfinished = frozen.unfinished();
    let began = std::time::Instant::now();
    let vm = frozen.restore(request).await.map_err(|error| chain(&error))?;
    if snapshot.made == SnapshotMade::Fresh {
        // It is mapped. What is not deleted goes with the box.
        let _ = std::fs::remove_dir_all(supervisor.dir.memory());
    }
    mark_steps(supervisor, &vm, began);
    if let Some(unfinished) = unfinished {
        unfinished.make_behind();
    }
    Ok(Restored { vm, mark, main: Main::Restored })
}

/// A VM in which main is yet to be started.
async fn start(supervisor: &Supervisor, request: RestoreRequest) -> Result<Restored, String> {
    let template = find_template(supervisor).await?;
    supervisor.run.steps.mark("template found");
    let mark = template.mark().map(Mark);
    let began = std::time::Instant::now();
    let vm = boxwood_vmm::restore(&template, request).await.map_err(|error| chain(&error))?;
    mark_steps(supervisor, &vm, began);
    Ok(Restored { vm, mark, main: Main::New })
}

fn mark_steps(supervisor: &Supervisor, vm: &Vm, began: std::time::Instant) {
    let timings = vm.timings();
    for (step, took) in [
        ("qemu spawned", timings.spawned),
        ("qemu has its ram", timings.ram),
        ("qemu ready", timings.ready),
        ("state loaded", timings.loaded),
        ("vcpus run", timings.running),
    ] {
        supervisor.run.steps.mark_at(step, began + took);
    }
}

/// The template of the run at hand: a box that ran has a disk of its own, which no template has mounted.
async fn find_template(supervisor: &Supervisor) -> Result<Template, String> {
    let spec = &supervisor.spec;
    match (&spec.again, supervisor.back_off.restarts()) {
        (Some(again), 1..) => match open(again).await {
            // Templates come and go in the life of a box.
            Err(_) => open(&(supervisor.remake)(spec.clone()).await?).await,
            found => found,
        },
        _ => open(&spec.template).await,
    }
}

async fn open(wanted: &TemplateRef) -> Result<Template, String> {
    let templates = Templates::open(&wanted.store).with_cache(&wanted.cache);
    let template = templates.get(&wanted.key).await.map_err(|error| chain(&error))?;
    if template.disk_digest() != wanted.disk {
        // Its memory knows another disk than the box's.
        return Err("its template was made anew meanwhile: start the box again".to_owned());
    }
    Ok(template)
}
