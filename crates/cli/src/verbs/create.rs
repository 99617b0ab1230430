//! `boxwood create`: a box that is started later.

use std::process::ExitCode;

use boxwood_runtime::state::Client;

use crate::idfile::IdFile;
use crate::out::say;
use crate::wishes::{self, Then, Wishes};
use crate::{open_runtime, wait_for};

/// Create a box without starting it, and print its ID
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "boxwood create [OPTIONS] IMAGE [COMMAND] [ARGUMENT]...",
    after_help = "Examples:
  boxwood create --name web my/server && boxwood start web
  boxwood start -a $(boxwood create busybox echo hello)"
)]
pub(crate) struct Args {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    wishes: Wishes,
}

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let id_file = args.wishes.cidfile.take();
    let request = args.wishes.into_request(Client::Later)?;
    request.check()?;
    let id_file = IdFile::reserve(id_file)?;
    let runtime = open_runtime()?;
    wait_for(async {
        let held = wishes::create(&runtime, &request, Then::Leave).await?;
        id_file.write(held.spec().id.as_str())?;
        say!("{}", held.spec().id)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    mut args: Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let id_file = args.wishes.cidfile.take();
    let request = wishes::for_daemon(args.wishes.into_request(Client::Later)?)?;
    let id_file = IdFile::reserve(id_file)?;
    let id = daemon.create(&request).await?.id;
    id_file.write(&id)?;
    say!("{id}")?;
    Ok(ExitCode::SUCCESS)
}
