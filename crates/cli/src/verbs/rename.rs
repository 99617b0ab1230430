//! `boxwood rename`: a box gets another name.

use std::process::ExitCode;

use boxwood_api::RenameBox;
use boxwood_types::BoxName;

use crate::open_runtime;

/// Rename a box
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood rename web web-old")]
pub(crate) struct Args {
    /// Name or ID
    #[arg(value_name = "BOX")]
    old: String,
    /// The name it gets
    #[arg(value_name = "NAME")]
    new: BoxName,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    runtime.rename(&runtime.find(&args.old)?, &args.new)?;
    Ok(ExitCode::SUCCESS)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let to = RenameBox { name: args.new.to_string() };
    daemon.rename(&args.old, &to).await?;
    Ok(ExitCode::SUCCESS)
}
