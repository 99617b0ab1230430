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

/// The daemon's.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let version = daemon.version().await?;
    if args.json {
        say!("{}", json!({ "Version": version.version, "Os": version.os, "Arch": version.arch }))?;
    } else {
        say!("boxwood {}", version.version)?;
    }
    Ok(ExitCode::SUCCESS)
}
