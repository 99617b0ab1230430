//! The checks of what runs a VM: accelerator, QEMU, template. Called by `doctor`.

use std::env;
use std::path::{Path, PathBuf};

use boxwood_types::{Shape, chain};
use boxwood_vmm::{Accelerator, BakeRequest, Choice, Engine, Finding, Verdict, probe};

use crate::assets::Assets;
use crate::command::find_program;
use crate::distro::{Distro, Need};

use super::{Check, Patient, VmPlaces};

/// All of them, in the order they are shown. A template depends on the two before it.
pub(super) async fn all(patient: &Patient<'_>, places: &VmPlaces<'_>) -> Vec<Check> {
    let verdict = probe(places.cache);
    // Where the user's choice is refused, the engine is still worth a look.
    let accelerator = verdict.as_ref().map_or(Accelerator::Tcg, |verdict| verdict.accelerator);
    let accelerator_check = match &verdict {
        Ok(verdict) => judge_accelerator(verdict),
        Err(error) => Check::fail("accelerator", chain(error), "unset BOXWOOD_ACCEL"),
    };
    let (engine_check, engine) = engine(accelerator, places.cache);
    let template_check = match engine {
        Some(engine) => template((patient, places), &engine, accelerator).await,
        None => not_baked("it needs QEMU first"),
    };
    vec![accelerator_check, engine_check, template_check]
}

fn judge_accelerator(verdict: &Verdict) -> Check {
    const NAME: &str = "accelerator";
    const ELSE: &str = "boxes run on QEMU's emulator, slower";
    let remedy = match (&verdict.kvm, verdict.choice) {
        (Finding::Fast { .. }, _) | (_, Choice::Tcg) => {
            return Check::ok(NAME, verdict.to_string());
        }
        (Finding::NoPermission, _) => {
            "let this user open it: 'usermod -aG kvm USER', then log in again".to_owned()
        }
        (Finding::Absent, _) => {
            format!("{ELSE}; for KVM, enable virtualization in the firmware or of this VM")
        }
        (Finding::Slow { .. } | Finding::Broken { .. } | Finding::NotTried, _) => {
            format!("{ELSE}; for KVM, use a host with hardware virtualization")
        }
    };
    Check::warn(NAME, verdict.to_string(), remedy)
}

fn engine(accelerator: Accelerator, cache: &Path) -> (Check, Option<Engine>) {
    const NAME: &str = "qemu";
    match Engine::find(accelerator, cache) {
        Ok(engine) => {
            let detail = format!("{} ({})", engine.version(), engine.path().display());
            (Check::ok(NAME, detail), Some(engine))
        }
        Err(error) => (Check::fail(NAME, chain(&error), another_qemu()), None),
    }
}

/// Whether there is a QEMU, without asking it what it can do.
pub(super) fn qemu_on_path() -> Check {
    const NAME: &str = "qemu";
    let named = env::var_os("BOXWOOD_QEMU").filter(|path| !path.is_empty()).map(PathBuf::from);
    let found = ["qemu-system-x86_64", "qemu-system-x86_64-microvm", "qemu-kvm"]
        .iter()
        .find_map(|program| find_program(program));
    match named.or(found) {
        Some(path) => Check::ok(NAME, path.display().to_string()),
        None => Check::fail(NAME, "not installed", another_qemu()),
    }
}

fn another_qemu() -> String {
    let package = Distro::current().package(Need::Qemu);
    format!("install the package {package}, or set BOXWOOD_QEMU")
}

async fn template(
    (patient, places): (&Patient<'_>, &VmPlaces<'_>),
    engine: &Engine,
    accelerator: Accelerator,
) -> Check {
    let assets = match Assets::look(patient.stores, patient.sources) {
        Ok(Some(assets)) => assets,
        // Why is said by the checks of the kernel and of the guest binary.
        Ok(None) | Err(_) => return not_baked("kernel and initramfs come first"),
    };
    let shape = Shape::default();
    let request = BakeRequest {
        mark: [0; 16],
        again_if: None,
        engine,
        accelerator,
        boot: &assets.boot_files(),
        shape,
        within: BakeRequest::WITHIN,
    };
    match places.templates.find(&request).await {
        Ok(Some(_)) => Check::ok(NAME_OF_TEMPLATE, format!("of the default shape, {shape}")),
        Ok(None) => not_baked(&format!("none of the default shape, {shape}, yet")),
        Err(error) => Check::fail(
            NAME_OF_TEMPLATE,
            chain(&error),
            "make the directory of templates readable for this user",
        ),
    }
}

const NAME_OF_TEMPLATE: &str = "template";

fn not_baked(why: &str) -> Check {
    Check::warn(
        NAME_OF_TEMPLATE,
        format!("{why}: it will be baked at first use"),
        "run 'boxwood setup' to do it now",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn no_kvm_is_a_warning_with_the_figure_and_a_way_out() {
        let verdict = |kvm, choice| Verdict { accelerator: Accelerator::Tcg, kvm, choice };
        let slow = judge_accelerator(&verdict(Finding::Slow { mips: 2.3 }, Choice::Auto));
        assert_eq!(slow.status, Status::Warn);
        assert!(slow.detail.contains("2.3"), "{slow:?}");
        let locked = judge_accelerator(&verdict(Finding::NoPermission, Choice::Auto));
        assert!(locked.remedy.is_some_and(|remedy| remedy.contains("kvm USER")));
        let chosen = judge_accelerator(&verdict(Finding::NotTried, Choice::Tcg));
        assert_eq!(chosen.status, Status::Ok);
        let fast = Verdict {
            accelerator: Accelerator::Kvm,
            kvm: Finding::Fast { mips: 4000.0 },
            choice: Choice::Auto,
        };
        assert_eq!(judge_accelerator(&fast).status, Status::Ok);
    }
}
