//! `boxwood run`: a box from an image, with its main's streams and its exact exit code.

use std::process::ExitCode;

use boxwood_runtime::state::Client;

use crate::client::{self, Input, Manner, Screen, Timings};
use crate::detach::{self, DetachKeys};
use crate::idfile::IdFile;
use crate::out::say;
use crate::wishes::{self, Then, Wishes};
use crate::{open_runtime, remote, terminal, wait_for};

/// Run a command in a new box
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "boxwood run [OPTIONS] IMAGE [COMMAND] [ARGUMENT]...",
    after_help = "Examples:
  boxwood run --rm busybox -- echo hello
  echo data | boxwood run --rm -i busybox wc -c
  boxwood run --rm -it busybox
  boxwood run -d --name web -m 256m my/server

Leave a terminal with ctrl-p ctrl-q: the box goes on.

Exit codes:
  125        boxwood could not start the box; the reason is on standard error
  126, 127   the command can't be executed, or was not found
  128+n      signal n ended the command
  otherwise  what the command returned"
)]
pub(crate) struct Args {
    /// Run in the background and print the box's ID
    #[arg(short, long)]
    detach: bool,
    /// The keys that leave a terminal
    #[arg(long, value_name = "KEYS", default_value = detach::DEFAULT)]
    detach_keys: DetachKeys,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Print how long each step took on standard error
    #[arg(long, hide = true)]
    timings: bool,
    #[command(flatten)]
    wishes: Wishes,
}

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let id_file = args.wishes.cidfile.take();
    let detach = args.detach;
    if args.wishes.process.interactive && args.wishes.process.tty && !detach {
        terminal::check_input()?;
    }
    let manner = args.manner();
    let client = if detach { Client::Detached } else { Client::Attached };
    let request = args.wishes.into_request(client)?;
    request.check()?;
    let id_file = IdFile::reserve(id_file)?;
    let runtime = open_runtime()?;
    wait_for(async {
        let held = wishes::create(&runtime, &request, Then::Start).await?;
        let id = held.spec().id.clone();
        id_file.write(id.as_str())?;
        let started = held.start(&runtime)?;
        // While the box starts, what earlier crashes left is put right.
        runtime.recover()?;
        if detach {
            client::until_started(started, id.as_str()).await
        } else {
            client::until_ended(&runtime, started, &manner).await
        }
    })
}

impl Args {
    fn manner(&self) -> Manner {
        let input = match (self.wishes.process.interactive, self.wishes.process.tty) {
            (false, _) => Input::None,
            (true, false) => Input::Piped,
            (true, true) => Input::Terminal(self.detach_keys.clone()),
        };
        let screen = if self.wishes.process.tty { Screen::Terminal } else { Screen::None };
        let timings = if self.timings { Timings::Told } else { Timings::Quiet };
        Manner { input, screen, timings }
    }
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    mut args: Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    if args.wishes.process.interactive && args.wishes.process.tty && !args.detach {
        terminal::check_input()?;
    }
    let (detach, manner) = (args.detach, args.manner());
    let client = if detach { Client::Detached } else { Client::Later };
    let id_file = args.wishes.cidfile.take();
    let request = wishes::for_daemon(args.wishes.into_request(client)?)?;
    let id_file = IdFile::reserve(id_file)?;
    let id = match daemon.create(&request).await {
        Ok(created) => created.id,
        Err(error) => return Ok(remote::refused(error)),
    };
    id_file.write(&id)?;
    if detach {
        say!("{id}")?;
        return Ok(ExitCode::SUCCESS);
    }
    client::start_there(daemon, &id, &manner).await
}
