//! `boxwood prune`: what is not in use goes.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::bail;
use boxwood_api::PruneAll;
use boxwood_runtime::state::BoxSpec;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::{Prune, Pruned};
use boxwood_types::ByteSize;

use crate::out::say;
use crate::times::{self, Time};
use crate::{complain, open_runtime, wait_for};

/// Remove all boxes that don't run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood prune
  boxwood prune -f --templates
  boxwood prune -f --filter until=24h --filter label=job")]
pub(crate) struct Args {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only boxes for which this holds: until=TIME (created before that, or so long ago) or label=NAME[=VALUE]
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "templates")]
    filter: Vec<Only>,
    /// Templates, too, and memories of snapshots that were made whole to be restored: both are made again
    /// when they are needed
    #[arg(long)]
    templates: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.force && !agreed(args)? {
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = open_runtime()?;
    let (until, labels) = args.only();
    let wanted = |spec: &BoxSpec| {
        until.is_none_or(|until| spec.created < until)
            && labels.iter().all(|label| match label.split_once('=') {
                Some((name, value)) => spec.labels.get(name).is_some_and(|own| own == value),
                None => spec.labels.contains_key(label),
            })
    };
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
        Ok(runtime.prune(what, &wanted, &mut tell).await?)
    })?;
    told?;
    reclaimed(freed)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    if !args.force && !agreed(args)? {
        return Ok(ExitCode::SUCCESS);
    }
    let (until, label) = args.only();
    let asked = PruneAll { templates: args.templates, until: until.map(times::rfc3339), label };
    let gone = daemon.prune(&asked).await?;
    gone.boxes.iter().try_for_each(|id| say!("Deleted box: {id}"))?;
    gone.templates.iter().try_for_each(|key| say!("Deleted template: {key}"))?;
    gone.memories.iter().try_for_each(|name| say!("Deleted memory of snapshot: {name}"))?;
    for warning in gone.warnings {
        complain(&anyhow::Error::msg(warning));
    }
    reclaimed(gone.freed_bytes)
}

/// Which boxes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Only {
    Until(Time),
    Label(String),
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("until", time)) => Ok(Only::Until(time.parse()?)),
            Some(("label", label)) if !label.is_empty() => Ok(Only::Label(label.to_owned())),
            _ => Err(format!("'{text}' is no filter: until=TIME, label=NAME or label=NAME=VALUE")),
        }
    }
}

impl Args {
    /// Before when they were created, and what labels they have.
    fn only(&self) -> (Option<Moment>, Vec<String>) {
        let now = Moment::now();
        let (mut until, mut labels) = (None, Vec::new());
        for only in &self.filter {
            match only {
                Only::Until(time) => {
                    let time = time.before(now);
                    until = Some(until.map_or(time, |until: Moment| until.min(time)));
                }
                Only::Label(label) => labels.push(label.clone()),
            }
        }
        (until, labels)
    }
}

fn reclaimed(bytes: u64) -> anyhow::Result<ExitCode> {
    say!("Total reclaimed space: {}", ByteSize::from_bytes(bytes))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal. Without one nobody can agree.
fn agreed(args: &Args) -> anyhow::Result<bool> {
    let what = match (args.templates, args.filter.is_empty()) {
        (true, _) => "all stopped boxes and all templates",
        (false, true) => "all stopped boxes",
        (false, false) => "all stopped boxes that the filters mean",
    };
    if !std::io::stdin().is_terminal() {
        bail!("this removes {what}: say so with --force, as there is no terminal to ask on");
    }
    say!("This will remove {what}. Are you sure you want to continue? [y/N]")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
