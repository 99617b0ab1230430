//! `boxwood prune`: what is not in use goes.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::bail;
use boxwood_runtime::{Force, Listed, Runtime};
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
    /// Templates, too: they are made again when they are needed
    #[arg(long)]
    templates: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.force && !agreed(args.templates)? {
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = open_runtime()?;
    runtime.recover()?;
    wait_for(async {
        let mut freed = prune_boxes(&runtime).await?;
        if args.templates {
            freed += prune_templates(&runtime).await?;
        }
        say!("Total reclaimed space: {}", ByteSize::from_bytes(freed))?;
        Ok(ExitCode::SUCCESS)
    })
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

async fn prune_boxes(runtime: &Runtime) -> anyhow::Result<u64> {
    let listed = runtime.list(&mut |error| complain(&error.into()))?;
    let mut listed = runtime.settle(listed).await;
    listed.retain(|one| !one.record.state.is_live());
    let mut freed = 0;
    for one in listed {
        let (id, size) = (one.spec.id.clone(), size(&one));
        // One that was started meanwhile stays.
        match runtime.remove(one, Force::No).await {
            Ok(()) => {
                say!("Deleted box: {id}")?;
                freed += size;
            }
            Err(error) => complain(&error.into()),
        }
    }
    Ok(freed)
}

/// What a box takes on the disk.
fn size(listed: &Listed) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let folders = [listed.dir.path().to_owned(), listed.dir.log()];
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let metadata = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    metadata.map(|metadata| metadata.blocks() * 512).sum()
}

async fn prune_templates(runtime: &Runtime) -> anyhow::Result<u64> {
    let templates = runtime.templates();
    let mut freed = 0;
    for info in templates.list()? {
        match templates.remove(&info.key).await {
            Ok(()) => {
                say!("Deleted template: {}", info.key)?;
                freed += info.disk_bytes;
            }
            Err(error) => complain(&error.into()),
        }
    }
    Ok(freed)
}
