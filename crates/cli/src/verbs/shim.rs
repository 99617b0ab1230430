//! `boxwood shim`, `warm` and `refill`, hidden: the supervisor of one box, of a VM that waits for one, and
//! who makes such VMs after a claim. Only the runtime starts them.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use boxwood_runtime::state::{BoxSpec, TemplateRef};
use boxwood_runtime::{Locations, Runtime};
use boxwood_types::{BoxId, chain};

use crate::open_runtime;

/// Supervise one box
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The home
    home: PathBuf,
    /// The box
    id: BoxId,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    boxwood_shim::run(&args.home, &args.id, Box::new(|spec| Box::pin(remake(spec))))
}

/// The same with a VM that waits for a box.
pub(crate) fn run_warm(args: &Args) -> ExitCode {
    boxwood_shim::run_warm(&args.home, &args.id, Box::new(|spec| Box::pin(remake(spec))))
}

/// Make what a pool is short of
#[derive(Debug, clap::Args)]
pub(crate) struct RefillArgs {
    /// The home
    home: PathBuf,
    /// What was claimed, in JSON
    claimed: String,
}

/// Makes what a pool is short of, once its client lets it.
pub(crate) fn refill(args: &RefillArgs) -> ExitCode {
    let refilled = || -> anyhow::Result<()> {
        std::io::copy(&mut File::open("/proc/self/fd/3")?, &mut std::io::sink())?;
        let places = Locations { home: args.home.clone(), ..Locations::from_environment()? };
        let runtime = Runtime::open(places, std::env::current_exe()?)?;
        Ok(runtime.refill(&serde_json::from_str(&args.claimed)?)?)
    };
    // Nobody hears why not, but it is written down; and the next claim tries again.
    if refilled().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// With the environment of who started the shim, templates are where they were.
async fn remake(spec: BoxSpec) -> Result<TemplateRef, String> {
    let runtime = open_runtime().map_err(|error| chain(&*error))?;
    runtime.template_again(&spec).await.map_err(|error| chain(&error))
}
