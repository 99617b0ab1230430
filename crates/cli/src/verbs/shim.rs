//! `boxwood shim`, hidden: the supervisor of one box. Only the runtime starts it.

use std::path::PathBuf;
use std::process::ExitCode;

use boxwood_runtime::state::{BoxSpec, TemplateRef};
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

/// With the environment of who started the shim, templates are where they were.
async fn remake(spec: BoxSpec) -> Result<TemplateRef, String> {
    let runtime = open_runtime().map_err(|error| chain(&*error))?;
    runtime.template_again(&spec).await.map_err(|error| chain(&error))
}
