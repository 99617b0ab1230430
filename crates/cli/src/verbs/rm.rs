//! `boxwood rm`: boxes go, with their disks and logs.

use std::process::ExitCode;

use boxwood_api::DeleteBox;
use boxwood_runtime::state::StateError;
use boxwood_runtime::{Error, Force, Runtime};

use crate::{Found, for_each_found, open_runtime, remote, wait_for};

/// Remove boxes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood rm job
  boxwood rm -f $(boxwood ps -aq)")]
pub(crate) struct Args {
    /// Kill a box that runs; don't mind one that is not there
    #[arg(short, long)]
    force: bool,
    /// Docker's; the box's disk is its only volume, and goes with it
    #[arg(short, long, hide = true)]
    volumes: bool,
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    let force = if args.force { Force::Kill } else { Force::No };
    wait_for(for_each_found(&args.boxes, async |name| match remove(&runtime, name, force).await {
        Ok(()) => Ok(Found::Yes),
        Err(error @ Error::State(StateError::NoSuchBox(_))) if args.force => {
            Ok(Found::No(error.into()))
        }
        Err(Error::State(error)) if args.force && error.is_damage() => {
            runtime.remove_damaged(name).await?;
            Ok(Found::Yes)
        }
        Err(error) => Err(error.into()),
    }))
}

async fn remove(runtime: &Runtime, name: &str, force: Force) -> Result<(), Error> {
    runtime.remove(runtime.find(name)?, force).await
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let how = DeleteBox { force: args.force };
    for_each_found(&args.boxes, async |name| match daemon.delete(name, &how).await {
        Err(error) if args.force && remote::is_not_found(&error) => Ok(Found::No(error.into())),
        other => Ok(other.map(|()| Found::Yes)?),
    })
    .await
}
