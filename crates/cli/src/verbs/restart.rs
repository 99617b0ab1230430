//! `boxwood restart`: a box is stopped, if it runs, and started again with its disk as it was.

use std::process::ExitCode;

use anyhow::bail;
use boxwood_runtime::Runtime;
use boxwood_runtime::state::{AfterExit, Client};
use boxwood_types::Signal;

use crate::wishes::StopWishes;
use crate::{REFUSED, client, complain, for_each, open_runtime, progress, wait_for};

/// Restart boxes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood restart web
  boxwood restart -t 1 web db")]
pub(crate) struct Args {
    #[command(flatten)]
    how: StopWishes,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let StopWishes { signal, boxes, .. } = &args.how;
    let grace_ms = args.how.grace_ms()?;
    let runtime = open_runtime()?;
    wait_for(async {
        let mut code = ExitCode::SUCCESS;
        for name in boxes {
            match restart(&runtime, name, *signal, grace_ms).await {
                Ok(ExitCode::SUCCESS) => {}
                Ok(refused) => code = refused,
                Err(error) => {
                    complain(&error);
                    code = ExitCode::from(REFUSED);
                }
            }
        }
        Ok(code)
    })
}

async fn restart(
    runtime: &Runtime,
    name: &str,
    signal: Option<Signal>,
    grace_ms: Option<u64>,
) -> anyhow::Result<ExitCode> {
    let listed = runtime.find(name)?;
    if listed.spec.after_exit == AfterExit::Remove {
        bail!("box {name} is removed when it has ended (--rm), so it can't be restarted");
    }
    runtime.stop(&listed, signal, grace_ms).await?;
    let mut work = progress::Work::new();
    let id = listed.spec.id.as_str();
    let mut step = |step: boxwood_runtime::Progress| work.step(&step.to_string());
    let held = runtime.hold_again(id, Client::Detached, &mut step).await;
    work.done();
    let held = held?;
    let spec = held.spec().clone();
    let code = client::until_started(held.start(runtime)?, name).await?;
    runtime.announce_restart(&spec);
    Ok(code)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let how = args.how.remote()?;
    for_each(&args.how.boxes, async |name| Ok(daemon.restart(name, &how).await?)).await
}
