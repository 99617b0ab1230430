//! A VM for a box: its template, restored with the box's disks. Called by `launch`.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use boxwood_state::{AfterExit, TemplateRef};
use boxwood_types::chain;
use boxwood_vmm::{DiskDurability, QemuUser, RestoreRequest, Template, Templates, Vm};

use crate::supervisor::Supervisor;

/// How long a restore may take when QEMU is alive and wedged.
const RESTORE: Duration = Duration::from_secs(60);

/// Restores the box's template with the box's disks.
pub(crate) async fn restore_vm(supervisor: &Supervisor, console: File) -> Result<Vm, String> {
    let (spec, dir) = (&supervisor.spec, &supervisor.dir);
    let open_file = |path: &Path, options: &std::fs::OpenOptions| {
        options.open(path).map_err(|error| format!("can't open {}: {error}", path.display()))
    };
    let image = open_file(&spec.image.block, File::options().read(true))?;
    let disk = open_file(&dir.disk(), File::options().read(true).write(true))?;
    // An id is random, so its beginning is a seed.
    let user = QemuUser::own(u32::from_str_radix(&spec.id.as_str()[..7], 16).unwrap_or_default());
    let durability = match spec.after_exit {
        AfterExit::Keep => DiskDurability::Flushed,
        AfterExit::Remove => DiskDurability::Scratch,
    };
    let template = find_template(supervisor).await?;
    supervisor.run.steps.mark("template found");
    let request = RestoreRequest { image, disk, console, user, durability, within: RESTORE };
    let began = std::time::Instant::now();
    let vm = boxwood_vmm::restore(&template, request).await.map_err(|error| chain(&error))?;
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
    Ok(vm)
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
