//! `boxwood snapshot`: running boxes that are kept as they were at one moment.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use boxwood_runtime::Runtime;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::{Snapshot, SnapshotPart};
use boxwood_types::{BoxName, ByteSize};
use serde_json::{Value, json};

use crate::format::{Format, print_views};
use crate::out::{say, tell};
use crate::{REFUSED, complain, open_runtime, times, wait_for};

const COLUMNS: [(&str, &str); 6] = [
    ("NAME", "Name"),
    ("BOX", "Box"),
    ("IMAGE", "Image"),
    ("PART", "Part"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

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
    let runtime = open_runtime()?;
    match &args.verb {
        Verb::Create { disk_only, source, name } => {
            let part = if *disk_only { SnapshotPart::Disk } else { SnapshotPart::Everything };
            wait_for(async {
                anyhow::Ok(runtime.snapshot(&runtime.find(source)?, name, part).await?)
            })?;
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
        Verb::Export { output, name } => {
            export(&runtime, &runtime.find_snapshot(name)?, output.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Import { input, name } => import(&runtime, input.as_deref(), name.as_ref()),
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

fn export(runtime: &Runtime, snapshot: &Snapshot, output: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = output else {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            bail!("a snapshot is not written to a terminal: use -o or redirect");
        }
        return Ok(runtime.export_snapshot(snapshot, &mut out)?);
    };
    // Under another name until it is whole.
    let mut half = path.as_os_str().to_owned();
    half.push(format!(".{}.tmp", std::process::id()));
    let made = || -> anyhow::Result<()> {
        let mut file = File::create_new(&half)?;
        runtime.export_snapshot(snapshot, &mut file)?;
        file.flush()?;
        file.sync_all()?;
        Ok(fs::rename(&half, path)?)
    };
    made()
        .inspect_err(|_| drop(fs::remove_file(&half)))
        .with_context(|| format!("can't write {}", path.display()))
}

fn import(
    runtime: &Runtime,
    input: Option<&Path>,
    name: Option<&BoxName>,
) -> anyhow::Result<ExitCode> {
    let mut input: Box<dyn Read> = match input {
        Some(path) => {
            let file = File::open(path);
            Box::new(file.with_context(|| format!("can't open {}", path.display()))?)
        }
        None if io::stdin().is_terminal() => {
            bail!("there is nothing to import: give a file with -i, or on standard input")
        }
        None => Box::new(io::stdin().lock()),
    };
    let imported = runtime.import_snapshot(&mut input, name)?;
    let name = imported.snapshot.info.name;
    if let Some(why) = imported.foreign {
        tell!(
            "{name} can begin anew here with 'boxwood restore --disk-only', and not go on: {why}"
        );
    }
    say!("{name}")?;
    Ok(ExitCode::SUCCESS)
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
            let (info, size) = (&snapshot.info, snapshot.size());
            let bytes = |bytes| ByteSize::from_bytes(bytes).to_string();
            json!({
                "Name": info.name,
                "ID": info.id.short(),
                "Box": info.source.name,
                "Image": info.source.image.name,
                "CreatedSince": format!("{} ago", times::since(info.created, now)),
                "CreatedAt": times::rfc3339(info.created),
                "Part": part(info.part),
                "OwnSize": bytes(size.own),
                "SharedSize": bytes(size.shared),
                "CacheSize": bytes(size.cache),
                "Size": format!("{} (and {} shared)", bytes(size.own), bytes(size.shared)),
            })
        })
        .collect();
    format.print(&rows, &COLUMNS)?;
    Ok(code)
}

fn view(snapshot: &Snapshot) -> Value {
    let (info, size) = (&snapshot.info, snapshot.size());
    json!({
        "Name": info.name,
        "Id": info.id.as_str(),
        "Created": times::rfc3339(info.created),
        "Part": part(info.part),
        "Size": { "Own": size.own, "Shared": size.shared, "Cache": size.cache },
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

fn part(part: SnapshotPart) -> &'static str {
    match part {
        SnapshotPart::Everything => "everything",
        SnapshotPart::Disk => "disk",
    }
}
