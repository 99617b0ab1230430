//! `boxwood start`: a stopped box runs again, with its disk as it was.

use std::process::ExitCode;

use boxwood_api::ErrorKind;
use boxwood_runtime::Error;
use boxwood_runtime::state::{Client, ProcessSpec};
use boxwood_types::BoxState;

use crate::client::{self, Input, Manner, Screen, Timings};
use crate::detach::{self, DetachKeys};
use crate::out::say;
use crate::{complain, open_runtime, progress, remote, terminal, wait_for};

/// Start stopped boxes again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood start web
  boxwood start -a job
  boxwood start -ai shell")]
pub(crate) struct Args {
    /// Attach to the output and return the command's exit code
    #[arg(short, long)]
    attach: bool,
    /// Connect standard input, too
    #[arg(short, long)]
    interactive: bool,
    /// The keys that leave a terminal
    #[arg(long, value_name = "KEYS", default_value = detach::DEFAULT)]
    detach_keys: DetachKeys,
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let attach = args.attach || args.interactive;
    if attach && args.boxes.len() > 1 {
        anyhow::bail!("only one box can be started with --attach or --interactive");
    }
    let runtime = open_runtime()?;
    wait_for(async {
        let mut code = ExitCode::SUCCESS;
        for name in &args.boxes {
            let client = if attach { Client::Attached } else { Client::Detached };
            let mut work = progress::Work::new();
            let held =
                runtime.hold_again(name, client, &mut |step| work.step(&step.to_string())).await;
            work.done();
            let held = match held {
                Ok(held) => held,
                // As Docker has it: what was wanted is so.
                Err(Error::WrongState { state: BoxState::Running, .. }) if !attach => {
                    say!("{name}")?;
                    continue;
                }
                Err(error) => {
                    complain(&error.into());
                    code = ExitCode::from(crate::REFUSED);
                    continue;
                }
            };
            let spec = held.spec();
            let manner = manner(&args, &spec.process);
            if matches!(manner.input, Input::Terminal(_)) {
                terminal::check_input()?;
            }
            if attach {
                return client::until_ended(&runtime, held.start(&runtime)?, &manner).await;
            }
            let started = async { client::until_started(held.start(&runtime)?, name).await };
            match started.await {
                Ok(ExitCode::SUCCESS) => {}
                Ok(refused) => code = refused,
                Err(error) => {
                    complain(&error);
                    code = ExitCode::from(crate::REFUSED);
                }
            }
        }
        Ok(code)
    })
}

/// What becomes of the client's streams: as the box was created.
fn manner(args: &Args, process: &ProcessSpec) -> Manner {
    let input = match (args.interactive && process.open_stdin, process.terminal) {
        (false, _) => Input::None,
        (true, None) => Input::Piped,
        (true, Some(_)) => Input::Terminal(args.detach_keys.clone()),
    };
    let screen = process.terminal.map_or(Screen::None, |_| Screen::Terminal);
    Manner { input, screen, timings: Timings::Quiet }
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let attach = args.attach || args.interactive;
    if attach && args.boxes.len() > 1 {
        anyhow::bail!("only one box can be started with --attach or --interactive");
    }
    let mut code = ExitCode::SUCCESS;
    for name in &args.boxes {
        if attach {
            let info = daemon.get(name).await?;
            let input = match (args.interactive && info.open_stdin, info.terminal) {
                (false, _) => Input::None,
                (true, false) => Input::Piped,
                (true, true) => {
                    terminal::check_input()?;
                    Input::Terminal(args.detach_keys.clone())
                }
            };
            let screen = if info.terminal { Screen::Terminal } else { Screen::None };
            let manner = Manner { input, screen, timings: Timings::Quiet };
            return client::start_there(daemon, &info.id, &manner).await;
        }
        match daemon.start(name).await {
            Ok(()) => say!("{name}")?,
            Err(error)
                if error.kind() == Some(ErrorKind::WrongState) && runs(daemon, name).await =>
            {
                say!("{name}")?;
            }
            Err(error) => code = remote::refused(error),
        }
    }
    Ok(code)
}

/// Whether what was wanted is so.
async fn runs(daemon: &boxwood_client::Client, name: &str) -> bool {
    daemon.get(name).await.is_ok_and(|info| info.state == BoxState::Running.to_string())
}
