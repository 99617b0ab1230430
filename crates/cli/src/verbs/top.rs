//! `boxwood top`: the processes of a box, as its guest shows them.

use std::process::ExitCode;

use anyhow::bail;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::control::BoxProcess;
use serde_json::{Value, json};

use crate::format::Format;
use crate::out::tell;
use crate::{open_runtime, shown, times, wait_for};

/// Docker's, which are those of `ps -ef`.
const COLUMNS: [(&str, &str); 8] = [
    ("UID", "User"),
    ("PID", "PID"),
    ("PPID", "PPID"),
    ("C", "CPU"),
    ("STIME", "STime"),
    ("TTY", "TTY"),
    ("TIME", "Time"),
    ("CMD", "Command"),
];

/// Show the processes of a box
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood top web
  boxwood top --format '{{.PID}} {{.Command}}' web
  boxwood top --json web

The ids are those in the box. For other columns run the ps of its image: boxwood exec web ps")]
pub(crate) struct Args {
    /// A Go template, 'table TEMPLATE', or 'json'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Name or ID of the box
    #[arg(value_name = "BOX")]
    name: String,
    /// What Docker hands to the host's ps, which knows nothing of the processes in a box
    #[arg(hide = true, allow_hyphen_values = true)]
    ps_options: Vec<String>,
}

impl Args {
    /// What it is to look like.
    fn format(&self) -> anyhow::Result<Format> {
        if !self.ps_options.is_empty() {
            let (name, options) = (&self.name, self.ps_options.join(" "));
            bail!(
                "top takes no options of ps: run the box's own, 'boxwood exec {name} ps {options}'"
            );
        }
        let format = if self.json { Some("json") } else { self.format.as_deref() };
        Format::new(format, &COLUMNS)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let format = args.format()?;
    let runtime = open_runtime()?;
    let found = wait_for(async { Ok(runtime.top(&runtime.find(&args.name)?).await?) })?;
    print(&format, &found.processes, found.more)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let format = args.format()?;
    let found = daemon.top(&args.name).await?;
    let processes: anyhow::Result<Vec<BoxProcess>> =
        found.processes.into_iter().map(process).collect();
    print(&format, &processes?, found.more)
}

fn process(told: boxwood_api::BoxProcess) -> anyhow::Result<BoxProcess> {
    Ok(BoxProcess {
        pid: told.pid,
        ppid: told.ppid,
        user: told.user,
        state: told.state.chars().next().unwrap_or('?'),
        terminal: told.terminal,
        started: shown::moment(&told.started)?,
        age_ms: told.age_ms,
        cpu_ms: told.cpu_ms,
        rss_kib: told.rss_kib,
        command: told.command,
    })
}

fn print(format: &Format, processes: &[BoxProcess], more: u32) -> anyhow::Result<ExitCode> {
    let now = Moment::now();
    let rows: Vec<Value> = processes.iter().map(|one| row(one, now)).collect();
    format.print(&rows, &COLUMNS)?;
    if more > 0 {
        tell!("and {more} more processes, which are not shown");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(process: &BoxProcess, now: Moment) -> Value {
    let seconds = process.cpu_ms / 1000;
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    json!({
        "User": process.user,
        "PID": process.pid,
        "PPID": process.ppid,
        // As ps has it: of its whole life, in percent.
        "CPU": process.cpu_ms.saturating_mul(100) / process.age_ms.max(1),
        "STime": times::started(process.started, now),
        "TTY": process.terminal.as_deref().unwrap_or("?"),
        "Time": time,
        "Command": process.command,
        "State": process.state.to_string(),
        "Started": times::rfc3339(process.started),
        "CPUMs": process.cpu_ms,
        "RSSKiB": process.rss_kib,
    })
}
