//! `boxwood stop`: main is asked to end, and made to when its time is up.

use std::process::ExitCode;

use crate::wishes::StopWishes;
use crate::{for_each, open_runtime, wait_for};

/// Stop boxes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood stop web
  boxwood stop -t 1 web db")]
pub(crate) struct Args {
    #[command(flatten)]
    how: StopWishes,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let StopWishes { signal, boxes, .. } = &args.how;
    let grace_ms = args.how.grace_ms()?;
    let runtime = open_runtime()?;
    wait_for(for_each(boxes, async |name| {
        let listed = runtime.find(name)?;
        runtime.stop(&listed, *signal, grace_ms).await?;
        Ok(())
    }))
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let how = args.how.remote()?;
    for_each(&args.how.boxes, async |name| Ok(daemon.stop(name, &how).await?)).await
}
