//! `boxwood snapshot`: running boxes that are kept as they were at one moment.

mod carry;
mod shown;

use std::path::PathBuf;
use std::process::ExitCode;

use boxwood_api::CreateSnapshot;
use boxwood_runtime::state::{Snapshot, SnapshotPart};
use boxwood_types::BoxName;
use serde_json::Value;

use crate::format::{Format, print_views};
use crate::out::{say, tell};
use crate::{REFUSED, complain, for_each, open_runtime, wait_for};
use shown::{COLUMNS, Shown, list, view};

/// Keep running boxes as they are at one moment
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood snapshot create web web-warm
  boxwood snapshot create --disk-only web web-disk
  boxwood snapshot ls
  boxwood restore web-warm
  boxwood snapshot verify web-warm
  boxwood snapshot export -o web-warm.bxs web-warm
  ssh other boxwood snapshot import < web-warm.bxs
  boxwood snapshot rm web-warm")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Capture a running box: its memory, its processes, its disk. The box goes on
    #[command(after_help = "Examples:
  boxwood snapshot create web web-warm
  boxwood snapshot create --disk-only web web-disk     # web need not run")]
    Create {
        /// Capture the disk alone; the box need not run
        #[arg(long)]
        disk_only: bool,
        /// The box: name or ID
        #[arg(value_name = "BOX")]
        source: String,
        /// The snapshot's name
        #[arg(value_name = "NAME")]
        name: BoxName,
    },
    /// List snapshots
    #[command(after_help = "Examples:
  boxwood snapshot ls
  boxwood snapshot ls --format '{{.Name}} {{.Box}} {{.OwnSize}}'
  boxwood snapshot ls -q")]
    Ls {
        /// A Go template, 'table TEMPLATE', or 'json'
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
        /// Only the names
        #[arg(short, long)]
        quiet: bool,
    },
    /// Everything about snapshots, as JSON
    #[command(after_help = "Examples:
  boxwood snapshot inspect web-warm
  boxwood snapshot inspect -f '{{.Pause.Microseconds}}' web-warm")]
    Inspect {
        /// A Go template
        #[arg(short, long, value_name = "FORMAT")]
        format: Option<String>,
        /// Names
        #[arg(required = true, value_name = "SNAPSHOT")]
        names: Vec<String>,
    },
    /// Read all of a snapshot and compare it with what was captured
    #[command(after_help = "Examples:
  boxwood snapshot verify web-warm
  boxwood snapshot ls -q | xargs boxwood snapshot verify")]
    Verify {
        /// Names
        #[arg(required = true, value_name = "SNAPSHOT")]
        names: Vec<String>,
    },
    /// Write a snapshot, with all it needs but its image, into one file
    #[command(after_help = "Examples:
  boxwood snapshot export -o web-warm.bxs web-warm
  boxwood snapshot export web-warm | ssh other boxwood snapshot import")]
    Export {
        /// Where to; else standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Its name
        #[arg(value_name = "SNAPSHOT")]
        name: String,
    },
    /// Keep a snapshot that was exported, here or elsewhere. Its image must be here
    #[command(after_help = "Examples:
  boxwood snapshot import -i web-warm.bxs
  boxwood snapshot import web-other < web-warm.bxs")]
    Import {
        /// What was exported; else standard input
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// Another name than it had
        #[arg(value_name = "NAME")]
        name: Option<BoxName>,
    },
    /// Remove snapshots; boxes that were restored from them run on
    #[command(after_help = "Examples:
  boxwood snapshot rm web-warm
  boxwood snapshot rm web-warm web-disk")]
    Rm {
        /// Names
        #[arg(required = true, value_name = "SNAPSHOT")]
        names: Vec<String>,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    match &args.verb {
        Verb::Create { disk_only, source, name } => {
            let runtime = open_runtime()?;
            let part = if *disk_only { SnapshotPart::Disk } else { SnapshotPart::Everything };
            wait_for(async { Ok(runtime.snapshot(&runtime.find(source)?, name, part).await?) })?;
            say!("{name}")?;
        }
        Verb::Ls { format, quiet } => {
            let format = Format::new(format.as_deref(), &COLUMNS)?;
            let snapshots = open_runtime()?.snapshots(&mut |error| {
                complain(&error.into());
                code = ExitCode::from(REFUSED);
            })?;
            let snapshots: Vec<Shown> = snapshots.iter().map(Shown::from).collect();
            list(&snapshots, &format, *quiet)?;
        }
        Verb::Inspect { format, names } => {
            let runtime = open_runtime()?;
            let shown = |snapshot: Snapshot| view(&Shown::from(&snapshot));
            let find = |name: &String| Ok(shown(runtime.find_snapshot(name)?));
            return inspect(format.as_deref(), names.iter().map(find));
        }
        Verb::Verify { names } => {
            let runtime = open_runtime()?;
            return wait_for(for_each(names, async |name| {
                Ok(runtime.verify_snapshot(&runtime.find_snapshot(name)?).await?)
            }));
        }
        Verb::Export { output, name } => carry::export(name, output.as_deref())?,
        Verb::Import { input, name } => carry::import(input.as_deref(), name.as_ref())?,
        Verb::Rm { names } => {
            let runtime = open_runtime()?;
            return wait_for(for_each(names, async |name| Ok(runtime.remove_snapshot(name)?)));
        }
    }
    Ok(code)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    match &args.verb {
        Verb::Create { disk_only, source, name } => {
            let how = CreateSnapshot { name: name.to_string(), disk_only: *disk_only };
            say!("{}", daemon.snapshot(source, &how).await?.name)?;
        }
        Verb::Ls { format, quiet } => {
            let format = Format::new(format.as_deref(), &COLUMNS)?;
            let found = daemon.snapshots().await?;
            for warning in found.warnings {
                tell!("{warning}");
                code = ExitCode::from(REFUSED);
            }
            let snapshots: anyhow::Result<Vec<Shown>> =
                found.snapshots.into_iter().map(Shown::try_from).collect();
            list(&snapshots?, &format, *quiet)?;
        }
        Verb::Inspect { format, names } => {
            let mut found = Vec::new();
            for name in names {
                let shown = daemon.get_snapshot(name).await.map_err(anyhow::Error::from);
                found.push(shown.and_then(Shown::try_from).map(|shown| view(&shown)));
            }
            return inspect(format.as_deref(), found);
        }
        Verb::Verify { names } => {
            return for_each(names, async |name| Ok(daemon.verify_snapshot(name).await?)).await;
        }
        Verb::Export { output, name } => {
            carry::export_there(daemon, name, output.as_deref()).await?;
        }
        Verb::Import { input, name } => {
            carry::import_there(daemon, input.as_ref(), name.as_ref()).await?;
        }
        Verb::Rm { names } => {
            return for_each(names, async |name| Ok(daemon.remove_snapshot(name).await?)).await;
        }
    }
    Ok(code)
}

/// Prints those that were found, and complains of the others.
fn inspect(
    format: Option<&str>,
    found: impl IntoIterator<Item = anyhow::Result<Value>>,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut views = Vec::new();
    for one in found {
        match one {
            Ok(view) => views.push(view),
            Err(error) => {
                complain(&error);
                code = ExitCode::from(REFUSED);
            }
        }
    }
    print_views(format, views)?;
    Ok(code)
}
