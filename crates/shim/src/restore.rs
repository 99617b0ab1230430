//! A VM for a box: its template, restored with the box's disks. Called by `launch`.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use boxwood_state::AfterExit;
use boxwood_types::chain;
use boxwood_vmm::{DiskDurability, QemuUser, RestoreRequest, Templates, Vm};

use crate::supervisor::Supervisor;

/// How long a restore may take when QEMU is alive and wedged.
const RESTORE: Duration = Duration::from_secs(60);

/// Restores the box's template with the box's disks.
pub(crate) async fn restore_vm(supervisor: &Supervisor, console: File) -> Result<Vm, String> {
    let (spec, dir) = (&supervisor.spec, &supervisor.dir);
    let open = |path: &Path, options: &std::fs::OpenOptions| {
        options.open(path).map_err(|error| format!("can't open {}: {error}", path.display()))
    };
    let image = open(&spec.image.block, File::options().read(true))?;
    let disk = open(&dir.disk(), File::options().read(true).write(true))?;
    // An id is random, so its beginning is a seed.
    let user = QemuUser::own(u32::from_str_radix(&spec.id.as_str()[..7], 16).unwrap_or_default());
    let durability = match spec.after_exit {
        AfterExit::Keep => DiskDurability::Flushed,
        AfterExit::Remove => DiskDurability::Scratch,
    };
    let templates = Templates::open(&spec.template.store).with_cache(&spec.template.cache);
    let template = templates.get(&spec.template.key).await.map_err(|error| chain(&error))?;
    if template.disk_digest() != spec.template.disk {
        // Its memory knows another disk than the box's.
        return Err("its template was made anew meanwhile: start the box again".to_owned());
    }
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
