//! `doctor`: whether boxes can run here. Changes nothing, downloads nothing, bakes nothing.

use boxwood_setup::{Assets, Check, Patient, Report, Sources, Stores};
use boxwood_types::Shape;
use boxwood_vmm::{Accelerator, BakeRequest, Engine, Verdict};

use crate::{Error, Locations, prepare};

/// Looks at everything a box needs.
///
/// # Errors
/// When the environment names sources that can't be.
pub async fn examine(locations: &Locations) -> Result<Report, Error> {
    let stores = match &locations.system_store {
        Some(system) => Stores::new(&locations.store).with_shared(system),
        None => Stores::new(&locations.store),
    };
    let sources = Sources::from_env()?;
    let mut report =
        Report::examine(&Patient { home: &locations.home, stores: &stores, sources: &sources });
    let verdict = boxwood_vmm::probe(&locations.cache());
    let accelerates = verdict.as_ref().map_or(Accelerator::Tcg, |verdict| verdict.accelerator);
    let engine = Engine::find(accelerates, &locations.cache());
    // How QEMU's package is called here is known there; whether it can do what it must, here.
    let named = report.checks.iter().position(|check| check.name == "qemu");
    let remedy = named.and_then(|at| report.checks.remove(at).remedy);
    report.checks.insert(0, accelerator(&verdict));
    report.checks.insert(1, qemu(&engine, remedy));
    if let (Ok(verdict), Ok(engine), Ok(assets)) =
        (&verdict, &engine, Assets::find(&stores, &sources))
    {
        report.checks.push(template(locations, engine, verdict, &assets).await);
    }
    Ok(report)
}

fn accelerator(verdict: &Result<Verdict, boxwood_vmm::Error>) -> Check {
    const NAME: &str = "accelerator";
    match verdict {
        Ok(verdict) => Check::ok(NAME, verdict.to_string()),
        Err(error) => Check::fail(NAME, error.to_string(), "set BOXWOOD_ACCEL to auto or tcg"),
    }
}

fn qemu(engine: &Result<Engine, boxwood_vmm::Error>, remedy: Option<String>) -> Check {
    const NAME: &str = "qemu";
    match engine {
        Ok(engine) => {
            Check::ok(NAME, format!("{} ({})", engine.version(), engine.path().display()))
        }
        Err(error) => {
            let remedy = remedy.unwrap_or_else(|| "set BOXWOOD_QEMU to one that can".to_owned());
            Check::fail(NAME, error.to_string(), remedy)
        }
    }
}

async fn template(
    locations: &Locations,
    engine: &Engine,
    verdict: &Verdict,
    assets: &Assets,
) -> Check {
    const NAME: &str = "template";
    let shape = Shape::default();
    let boot = prepare::boot_files(assets);
    let accelerator = verdict.accelerator;
    let within = BakeRequest::WITHIN;
    let request = BakeRequest { engine, accelerator, boot: &boot, shape, within };
    match prepare::templates(locations).find(&request).await {
        Ok(Some(found)) => Check::ok(NAME, format!("{shape} ({})", found.key())),
        Ok(None) => Check::warn(
            NAME,
            format!("none for {shape} yet: it will be baked at first use"),
            "run 'boxwood setup' to do it now",
        ),
        Err(error) => Check::warn(
            NAME,
            format!("{error}: it will be baked again at first use"),
            "run 'boxwood setup' to do it now",
        ),
    }
}
