//! `boxwood shim`, hidden: the supervisor of one box. Only the runtime starts it.

use std::path::PathBuf;
use std::process::ExitCode;

use boxwood_types::BoxId;

/// Supervise one box
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The home
    home: PathBuf,
    /// The box
    id: BoxId,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    boxwood_shim::run(&args.home, &args.id)
}
