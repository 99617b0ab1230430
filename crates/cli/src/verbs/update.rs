//! `boxwood update`: boxes are to be something else from now on.

use std::process::ExitCode;

use anyhow::bail;
use boxwood_api::UpdateBox;
use boxwood_runtime::UpdateRequest;
use boxwood_types::RestartPolicy;

use crate::health::HealthFlags;
use crate::wishes::{self, grace};
use crate::{for_each, open_runtime, wait_for};

/// Change boxes, whether they run or not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood update --restart on-failure:3 web
  boxwood update --health-cmd 'wget -qO- localhost' --health-interval 10s web
  boxwood update --no-healthcheck --stop-timeout 30 web db")]
pub(crate) struct Args {
    /// Start the box again when it has ended by itself: no, on-failure, on-failure:N, always or unless-stopped
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

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let health = args.health.into_wishes()?;
    let grace_ms = args.stop_timeout.map(grace).transpose()?;
    let asked = UpdateBox {
        restart_policy: args.restart.map(|policy| policy.to_string()),
        health_check_disabled: health.disabled,
        health_check_settings: wishes::health_for_daemon(health),
        stop_timeout_ms: grace_ms.map(|ms| ms.min(wishes::YEAR_MS)),
    };
    if asked == UpdateBox::default() {
        bail!("you must provide one or more flags when using this command");
    }
    for_each(&args.boxes, async |name| Ok(daemon.update(name, &asked).await?)).await
}
