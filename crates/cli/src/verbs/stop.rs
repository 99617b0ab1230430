//! `boxwood stop`: main is asked to end, and made to when its time is up.

use std::process::ExitCode;

use boxwood_types::Signal;

use crate::wishes::grace;
use crate::{for_each, open_runtime, wait_for};

/// Stop boxes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood stop web
  boxwood stop -t 1 web db")]
pub(crate) struct Args {
    /// Seconds until SIGKILL instead of the box's own; -1 for ever
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
    /// The first signal instead of the box's own
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<Signal>,
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let grace_ms = args.time.map(grace).transpose()?;
    let runtime = open_runtime()?;
    wait_for(for_each(&args.boxes, async |name| {
        let listed = runtime.find(name)?;
        runtime.stop(&listed, args.signal, grace_ms).await?;
        Ok(())
    }))
}
