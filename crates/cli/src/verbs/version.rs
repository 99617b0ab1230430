//! `boxwood version`.

use std::process::ExitCode;

use crate::out::say;
use serde_json::json;

/// Show the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        say!("{}", json!({ "Version": version, "Os": "linux", "Arch": "amd64" }))?;
    } else {
        say!("boxwood {version}")?;
    }
    Ok(ExitCode::SUCCESS)
}
