//! `boxwood attach`: main's standard streams, from now on.

use std::process::ExitCode;

use boxwood_api::AttachBox;

use crate::client::{Client, Input, Manner, Place, Screen, Timings, Whose, conclude};
use crate::detach::{self, DetachKeys};
use crate::{open_runtime, remote, terminal, wait_for};

/// Connect to the command of a running box
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood attach web
  boxwood attach --no-stdin --logs job

Leave a terminal with ctrl-p ctrl-q: the box goes on. What was written before is shown with --logs.")]
pub(crate) struct Args {
    /// First show everything it has written before
    #[arg(long)]
    logs: bool,
    /// Do not connect standard input
    #[arg(long)]
    no_stdin: bool,
    /// The keys that leave a terminal
    #[arg(long, value_name = "KEYS", default_value = detach::DEFAULT)]
    detach_keys: DetachKeys,
    /// Name or ID of the box
    #[arg(value_name = "BOX")]
    name: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    wait_for(async {
        let listed = runtime.find(&args.name)?;
        let process = &listed.spec.process;
        let input = match (process.open_stdin && !args.no_stdin, process.terminal) {
            (false, _) => Input::None,
            (true, None) => Input::Shared,
            (true, Some(_)) => {
                terminal::check_input()?;
                Input::Terminal(args.detach_keys)
            }
        };
        let screen = process.terminal.map_or(Screen::None, |_| Screen::Terminal);
        let mut attached = match args.logs {
            true => runtime.replay(&listed).await?,
            false => runtime.attach(&listed).await?,
        };
        let place = Place::Here { runtime: &runtime, dir: &listed.dir };
        let client = Client { place, whose: Whose::Main };
        let manner = Manner { input, screen, timings: Timings::Quiet };
        let parting = client.follow(&mut attached.reader, &mut attached.writer, &manner).await?;
        conclude(place, parting).await
    })
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let info = daemon.get(&args.name).await?;
    let input = match (info.open_stdin && !args.no_stdin, info.terminal) {
        (false, _) => Input::None,
        (true, false) => Input::Shared,
        (true, true) => {
            terminal::check_input()?;
            Input::Terminal(args.detach_keys)
        }
    };
    let screen = if info.terminal { Screen::Terminal } else { Screen::None };
    let (mut reader, mut writer) = daemon.attach(&info.id, &AttachBox { logs: args.logs }).await?;
    let place = Place::There { daemon, name: &info.id };
    let manner = Manner { input, screen, timings: Timings::Quiet };
    let client = Client { place, whose: Whose::Main };
    let ended = async {
        let parting = client.follow(&mut reader, &mut writer, &manner).await?;
        conclude(place, parting).await
    };
    remote::known(ended.await)
}
