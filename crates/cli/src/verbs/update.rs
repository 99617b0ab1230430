//! `boxwood update`: boxes are to be something else from now on.

use std::process::ExitCode;

use anyhow::bail;
use boxwood_runtime::UpdateRequest;
use boxwood_types::RestartPolicy;

use crate::health::HealthFlags;
use crate::wishes::grace;
use crate::{for_each, open_runtime, wait_for};

/// Change boxes, whether they run or not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood update --restart on-failure:3 web
  boxwood update --health-cmd 'wget -qO- localhost' --health-interval 10s web
  boxwood update --no-healthcheck --stop-timeout 30 web db")]
pub(crate) struct Args {
    /// Start the box again when it has ended by itself: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// Seconds from the stop signal to SIGKILL; -1 for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    #[command(flatten)]
    health: HealthFlags,
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let request = UpdateRequest {
        restart: args.restart,
        health: args.health.into_wishes()?,
        stop_grace_ms: args.stop_timeout.map(grace).transpose()?,
    };
    if request == UpdateRequest::default() {
        bail!("you must provide one or more flags when using this command");
    }
    let runtime = open_runtime()?;
    wait_for(for_each(&args.boxes, async |name| {
        Ok(runtime.update(&runtime.find(name)?, &request).await?)
    }))
}
