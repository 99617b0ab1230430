//! `boxwood snapshot`: running boxes that are kept as they were at one moment.

use std::process::ExitCode;

use boxwood_runtime::Runtime;
use boxwood_runtime::state::Snapshot;
use boxwood_runtime::state::clock::Moment;
use boxwood_types::{BoxName, ByteSize};
use serde_json::{Value, json};

use crate::format::{Format, print_views};
use crate::out::say;
use crate::{REFUSED, complain, open_runtime, progress, times, wait_for};

const COLUMNS: [(&str, &str); 5] = [
    ("NAME", "Name"),
    ("BOX", "Box"),
    ("IMAGE", "Image"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

/// Keep running boxes as they are at one moment
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood snapshot create web web-warm
  boxwood snapshot ls
  boxwood restore web-warm
  boxwood snapshot verify web-warm
  boxwood snapshot rm web-warm")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Capture a running box: its memory, its processes, its disk. The box goes on
    Create {
        /// The box: name or ID
        #[arg(value_name = "BOX")]
        source: String,
        /// The snapshot's name
        #[arg(value_name = "NAME")]
        name: BoxName,
    },
    /// List snapshots
    Ls {
        /// A Go template, 'table TEMPLATE', or 'json'
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
        /// Only the names
        #[arg(short, long)]
        quiet: bool,
    },
    /// Everything about snapshots, as JSON
    Inspect {
        /// A Go template
        #[arg(short, long, value_name = "FORMAT")]
        format: Option<String>,
        /// Names
        #[arg(required = true, value_name = "SNAPSHOT")]
        names: Vec<String>,
    },
    /// Read all of a snapshot and compare it with what was captured
    Verify {
        /// Names
        #[arg(required = true, value_name = "SNAPSHOT")]
        names: Vec<String>,
    },
    /// Remove snapshots; boxes that were restored from them run on
    Rm {
        /// Names
        #[arg(required = true, value_name = "SNAPSHOT")]
        names: Vec<String>,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    match &args.verb {
        Verb::Create { source, name } => {
            let mut work = progress::Work::new();
            work.step("capturing");
            let made = wait_for(async {
                anyhow::Ok(runtime.snapshot(&runtime.find(source)?, name).await?)
            });
            work.done();
            made?;
            say!("{name}")?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Ls { format, quiet } => {
            let format = Format::new(format.as_deref(), &COLUMNS)?;
            list(&runtime, &format, *quiet)
        }
        Verb::Inspect { format, names } => {
            let mut code = ExitCode::SUCCESS;
            let mut views = Vec::new();
            for name in names {
                match runtime.find_snapshot(name) {
                    Ok(snapshot) => views.push(view(&snapshot)),
                    Err(error) => {
                        complain(&error.into());
                        code = ExitCode::from(REFUSED);
                    }
                }
            }
            print_views(format.as_deref(), views)?;
            Ok(code)
        }
        Verb::Verify { names } => each(names, async |name: &str| {
            let snapshot = runtime.find_snapshot(name)?;
            Ok(runtime.verify_snapshot(&snapshot).await?)
        }),
        Verb::Rm { names } => each(names, async |name: &str| Ok(runtime.remove_snapshot(name)?)),
    }
}

/// Does something to each, says its name, and complains of those with which it did not work.
fn each(
    names: &[String],
    act: impl AsyncFn(&str) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    wait_for(async {
        let mut code = ExitCode::SUCCESS;
        for name in names {
            match act(name).await {
                Ok(()) => say!("{name}")?,
                Err(error) => {
                    complain(&error);
                    code = ExitCode::from(REFUSED);
                }
            }
        }
        Ok(code)
    })
}

fn list(runtime: &Runtime, format: &Format, quiet: bool) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let snapshots = runtime.snapshots(&mut |error| {
        complain(&error.into());
        code = ExitCode::from(REFUSED);
    })?;
    if quiet {
        snapshots.iter().try_for_each(|snapshot| say!("{}", snapshot.info.name))?;
        return Ok(code);
    }
    let now = Moment::now();
    let rows: Vec<Value> = snapshots
        .iter()
        .map(|snapshot| {
            let info = &snapshot.info;
            json!({
                "Name": info.name,
                "ID": info.id.short(),
                "Box": info.source.name,
                "Image": info.source.image.name,
                "CreatedSince": times::since(info.created, now),
                "CreatedAt": times::rfc3339(info.created),
                "Size": ByteSize::from_bytes(snapshot.disk_bytes()).to_string(),
            })
        })
        .collect();
    format.print(&rows, &COLUMNS)?;
    Ok(code)
}

fn view(snapshot: &Snapshot) -> Value {
    let info = &snapshot.info;
    json!({
        "Name": info.name,
        "Id": info.id.as_str(),
        "Created": times::rfc3339(info.created),
        "Size": snapshot.disk_bytes(),
        "Directory": snapshot.directory,
        "Source": {
            "Id": info.source.id.as_str(),
            "Name": info.source.name,
            "Image": info.source.image.name,
            "Shape": info.source.shape.to_string(),
            "Labels": info.source.labels,
        },
        "Pause": { "Microseconds": info.pause_us },
        "MemoryBytes": info.pages * 4096,
    })
}
