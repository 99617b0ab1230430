//! `boxwood pause`: a box stands still, with everything in it.

use std::process::ExitCode;

use crate::{for_each, open_runtime, wait_for};

/// Pause boxes: their VMs stand still with everything in them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood pause web
  boxwood pause web db")]
pub(crate) struct Args {
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    wait_for(for_each(&args.boxes, async |name| Ok(runtime.pause(&runtime.find(name)?).await?)))
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    for_each(&args.boxes, async |name| Ok(daemon.pause(name).await?)).await
}
