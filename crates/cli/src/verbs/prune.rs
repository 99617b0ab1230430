//! `boxwood prune`: what is not in use goes.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::bail;
use boxwood_api::PruneAll;
use boxwood_runtime::{Prune, Pruned};
use boxwood_types::ByteSize;

use crate::out::say;
use crate::{complain, open_runtime, wait_for};

/// Remove all boxes that don't run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood prune
  boxwood prune -f --templates")]
pub(crate) struct Args {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Templates, too, and memories of snapshots that were made whole to be restored: both are made again
    /// when they are needed
    #[arg(long)]
    templates: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.force && !agreed(args.templates)? {
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = open_runtime()?;
    let what = if args.templates { Prune::BoxesAndTemplates } else { Prune::Boxes };
    let mut told = Ok(());
    let freed = wait_for(async {
        let mut tell = |gone| {
            let said = match gone {
                Ok(Pruned::Box(id)) => say!("Deleted box: {id}"),
                Ok(Pruned::Template(key)) => say!("Deleted template: {key}"),
                Ok(Pruned::Memory(name)) => say!("Deleted memory of snapshot: {name}"),
                Err(error) => {
                    complain(&anyhow::Error::from(error));
                    Ok(())
                }
            };
            told = std::mem::replace(&mut told, Ok(())).and(said);
        };
        Ok(runtime.prune(what, &mut tell).await?)
    })?;
    told?;
    reclaimed(freed)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    if !args.force && !agreed(args.templates)? {
        return Ok(ExitCode::SUCCESS);
    }
    let gone = daemon.prune(&PruneAll { templates: args.templates }).await?;
    gone.boxes.iter().try_for_each(|id| say!("Deleted box: {id}"))?;
    gone.templates.iter().try_for_each(|key| say!("Deleted template: {key}"))?;
    gone.memories.iter().try_for_each(|name| say!("Deleted memory of snapshot: {name}"))?;
    for warning in gone.warnings {
        complain(&anyhow::Error::msg(warning));
    }
    reclaimed(gone.freed_bytes)
}

fn reclaimed(bytes: u64) -> anyhow::Result<ExitCode> {
    say!("Total reclaimed space: {}", ByteSize::from_bytes(bytes))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal. Without one nobody can agree.
fn agreed(templates: bool) -> anyhow::Result<bool> {
    let what = if templates { "all stopped boxes and all templates" } else { "all stopped boxes" };
    if !std::io::stdin().is_terminal() {
        bail!("this removes {what}: say so with --force, as there is no terminal to ask on");
    }
    say!("This will remove {what}. Are you sure you want to continue? [y/N]")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
