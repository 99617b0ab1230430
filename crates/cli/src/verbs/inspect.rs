//! `boxwood inspect`: everything about boxes, in Docker's shape.

use std::process::ExitCode;
use std::time::Duration;

use boxwood_runtime::state::control::Counted;
use boxwood_runtime::{Listed, Runtime, view};
use boxwood_types::BoxState;

use crate::format::print_views;
use crate::{REFUSED, complain, open_runtime, times, wait_for};

/// A guest that is asked beside everything else that is known is not waited for longer.
const GUEST: Duration = Duration::from_secs(2);

/// Show everything about boxes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood inspect web
  boxwood inspect --format '{{.State.ExitCode}}' job")]
pub(crate) struct Args {
    /// A Go template instead of JSON
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    let mut code = ExitCode::SUCCESS;
    let mut views = Vec::new();
    for name in &args.boxes {
        match find(&runtime, name) {
            Ok(listed) => views.push(view(&listed, counted(&runtime, &listed), &times::rfc3339)),
            Err(error) => {
                complain(&error);
                code = ExitCode::from(REFUSED);
            }
        }
    }
    print_views(args.format.as_deref(), views)?;
    Ok(code)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut views = Vec::new();
    for name in &args.boxes {
        match daemon.inspect(name).await {
            Ok(view) => views.push(view),
            Err(error) => {
                complain(&error.into());
                code = ExitCode::from(REFUSED);
            }
        }
    }
    print_views(args.format.as_deref(), views)?;
    Ok(code)
}

/// A box as it is; one whose main has ended, when it has ended itself.
fn find(runtime: &Runtime, name: &str) -> anyhow::Result<Listed> {
    let found = runtime.find(name)?;
    let settled = wait_for(async { Ok(runtime.settle(vec![found]).await) })?;
    settled.into_iter().next().map_or_else(|| Ok(runtime.find(name)?), Ok)
}

/// What the guest of a box that runs says it has counted. One that says nothing hides nothing else.
fn counted(runtime: &Runtime, listed: &Listed) -> Option<Counted> {
    let runs = listed.record.state == BoxState::Running;
    runs.then(|| wait_for(async { Ok(runtime.counted(listed, GUEST).await?) }).ok()).flatten()
}
