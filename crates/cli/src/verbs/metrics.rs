//! `boxwood metrics`: what was counted and timed.

use std::process::ExitCode;

use crate::{open_runtime, out};

/// Show what was counted and timed, as Prometheus reads it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood metrics
  boxwood metrics | grep boxes_registered

It is what 'boxwood serve' answers at /metrics; counts are those of this home, with the boxes that
are gone, and need no daemon.")]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> anyhow::Result<ExitCode> {
    out::bytes(open_runtime()?.metrics()?.text().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Those of a daemon's home.
pub(crate) async fn remote(_: &Args, daemon: &boxwood_client::Client) -> anyhow::Result<ExitCode> {
    out::bytes(daemon.metrics_text().await?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
