//! `boxwood kill`: main gets a signal, SIGKILL unless told otherwise.

use std::process::ExitCode;

use boxwood_api::KillBox;
use boxwood_types::Signal;

use crate::{for_each, open_runtime, wait_for};

/// Send a signal to the command of boxes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood kill web
  boxwood kill -s HUP web")]
pub(crate) struct Args {
    /// Which signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: Signal,
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    wait_for(for_each(&args.boxes, async |name| {
        let listed = runtime.find(name)?;
        Ok(runtime.kill(&listed, args.signal).await?)
    }))
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let how = KillBox { signal: Some(args.signal.number().to_string()) };
    for_each(&args.boxes, async |name| Ok(daemon.kill(name, &how).await?)).await
}
