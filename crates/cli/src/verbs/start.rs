//! `boxwood start`: a stopped box runs again, with its disk as it was.

use std::process::ExitCode;

use boxwood_runtime::state::Client;

use super::attach::{self, Streams};
use crate::{complain, open_runtime, progress, wait_for};

/// Start stopped boxes again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood start web
  boxwood start -a job")]
pub(crate) struct Args {
    /// Attach to the output and return the command's exit code
    #[arg(short, long)]
    attach: bool,
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.attach && args.boxes.len() > 1 {
        anyhow::bail!("only one box can be started with --attach");
    }
    let runtime = open_runtime()?;
    wait_for(async {
        let mut code = ExitCode::SUCCESS;
        for name in &args.boxes {
            let client = if args.attach { Client::Attached } else { Client::Detached };
            let mut work = progress::Work::new();
            let held =
                runtime.hold_again(name, client, &mut |step| work.step(&step.to_string())).await;
            work.done();
            let held = match held {
                Ok(held) => held,
                Err(error) => {
                    complain(&error.into());
                    code = ExitCode::from(crate::REFUSED);
                    continue;
                }
            };
            let id = held.spec().id.clone();
            let started = held.start(&runtime)?;
            if args.attach {
                return attach::until_ended(&runtime, started, Streams::Output, false).await;
            }
            attach::until_started(started, &id).await?;
        }
        Ok(code)
    })
}
