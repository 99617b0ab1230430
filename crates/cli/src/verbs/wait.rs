//! `boxwood wait`: blocks until boxes have ended and prints their exit codes.

use std::process::ExitCode;

use crate::out::say;
use crate::{REFUSED, complain, open_runtime, wait_for};

/// Wait until boxes have ended and print their exit codes
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  boxwood wait job")]
pub(crate) struct Args {
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    wait_for(async {
        let mut code = ExitCode::SUCCESS;
        for name in &args.boxes {
            let ended = async { runtime.wait(runtime.find(name)?).await };
            match ended.await {
                Ok(exit) => say!("{}", exit.code)?,
                Err(error) => {
                    complain(&error.into());
                    code = ExitCode::from(REFUSED);
                }
            }
        }
        Ok(code)
    })
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in &args.boxes {
        match daemon.wait(name).await {
            Ok(ended) => say!("{}", ended.exit.map_or(255, |exit| exit.code))?,
            Err(error) => {
                complain(&error.into());
                code = ExitCode::from(REFUSED);
            }
        }
    }
    Ok(code)
}
