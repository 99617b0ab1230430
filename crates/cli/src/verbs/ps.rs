//! `boxwood ps`: the boxes and their states.

use std::process::ExitCode;

use boxwood_api::ListBoxes;
use boxwood_runtime::Listed;
use boxwood_runtime::state::clock::Moment;
use boxwood_types::{BoxState, ByteSize, HealthStatus};
use serde_json::{Value, json};

use crate::filter::{self, Filter};
use crate::format::Format;
use crate::out::{say, tell};
use crate::shown::Shown;
use crate::{complain, open_runtime, times, wait_for};

const COLUMNS: [(&str, &str); 6] = [
    ("BOX ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("NAMES", "Names"),
];

/// The columns of `--size`.
const WITH_SIZE: [(&str, &str); 7] =
    [COLUMNS[0], COLUMNS[1], COLUMNS[2], COLUMNS[3], COLUMNS[4], COLUMNS[5], ("SIZE", "Size")];

/// List boxes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood ps -a
  boxwood ps -aq
  boxwood ps --filter label=job=7 --filter status=exited
  boxwood ps --format '{{.Names}}: {{.Status}}'")]
pub(crate) struct Args {
    /// Also those that don't run
    #[arg(short, long)]
    all: bool,
    /// Only boxes for which this holds: id, name, status, health, exited, label, ancestor, before or since
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Only the N boxes that were created last, running or not
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Only the box that was created last, running or not
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// Also what each box takes on the disk
    #[arg(short, long)]
    size: bool,
    /// Don't shorten
    #[arg(long)]
    no_trunc: bool,
    /// A Go template, 'table TEMPLATE', or 'json'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let format = args.format()?;
    let runtime = open_runtime()?;
    runtime.recover()?;
    let listed = runtime.list(&mut |error| complain(&error.into()))?;
    let listed = wait_for(async { Ok(runtime.settle(listed).await) })?;
    let shown = |one: &Listed| {
        let disk_bytes = args.wants_size().then(|| runtime.disk_bytes(one));
        Shown { disk_bytes, ..Shown::from(one) }
    };
    print(args, &format, listed.iter().map(shown).collect())
}

impl Args {
    fn format(&self) -> anyhow::Result<Format> {
        let format = if self.json { Some("json") } else { self.format.as_deref() };
        Format::new(format, self.columns())
    }

    fn columns(&self) -> &'static [(&'static str, &'static str)] {
        if self.size { &WITH_SIZE } else { &COLUMNS }
    }

    /// It is looked up for those who want it: that takes a look at each file.
    fn wants_size(&self) -> bool {
        self.size || self.format.as_ref().is_some_and(|format| format.contains(".Size"))
    }
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let format = args.format()?;
    let listed = daemon
        .list(&ListBoxes { all: true, size: args.wants_size(), ..ListBoxes::default() })
        .await?;
    for warning in listed.warnings {
        tell!("{warning}");
    }
    let boxes = listed.boxes.into_iter().map(Shown::try_from);
    print(args, &format, boxes.collect::<anyhow::Result<_>>()?)
}

fn print(args: &Args, format: &Format, mut boxes: Vec<Shown>) -> anyhow::Result<ExitCode> {
    let filters = filter::found(&args.filter, &boxes)?;
    let last = if args.latest { Some(1) } else { args.last };
    if !args.all && last.is_none() && !filter::mean_all(&args.filter) {
        boxes.retain(|one| one.state.is_live());
    }
    boxes.retain(|one| filter::hold(&filters, one));
    boxes.truncate(last.unwrap_or(usize::MAX));
    let now = Moment::now();
    let rows: Vec<Value> = boxes.iter().map(|one| row(one, now, args.no_trunc)).collect();
    if args.quiet {
        rows.iter().filter_map(|row| row["ID"].as_str()).try_for_each(|id| say!("{id}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    format.print(&rows, args.columns())?;
    Ok(ExitCode::SUCCESS)
}

fn row(shown: &Shown, now: Moment, whole: bool) -> Value {
    let command = shown.command.join(" ");
    let command = match command.char_indices().nth(19) {
        Some((at, _)) if !whole => format!("{}…", &command[..at]),
        _ => command,
    };
    json!({
        "ID": if whole { &shown.id } else { &shown.id[..shown.id.len().min(12)] },
        "Image": shown.image,
        "Command": format!("\"{command}\""),
        "CreatedAt": times::rfc3339(shown.created),
        "RunningFor": format!("{} ago", times::since(shown.created, now)),
        "Status": status(shown, now),
        "State": shown.state.to_string(),
        "Names": shown.name,
        "Ports": "",
        "Labels": labels(shown),
        "Size": shown.disk_bytes.map_or_else(String::new, |size| ByteSize::from_bytes(size).to_string()),
    })
}

/// As Docker writes them.
fn labels(shown: &Shown) -> String {
    let pairs = shown.labels.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

fn status(shown: &Shown, now: Moment) -> String {
    let up = || times::since(shown.started.unwrap_or(now), now);
    match shown.state {
        BoxState::Created => "Created".to_owned(),
        BoxState::Starting => "Starting".to_owned(),
        BoxState::Running => match shown.health {
            None => format!("Up {}", up()),
            Some(HealthStatus::Starting) => format!("Up {} (health: starting)", up()),
            Some(health) => format!("Up {} ({health})", up()),
        },
        BoxState::Paused => format!("Up {} (Paused)", up()),
        BoxState::Stopping => "Stopping".to_owned(),
        BoxState::Exited | BoxState::Failed | BoxState::Restarting => {
            let word = match shown.state {
                BoxState::Restarting => "Restarting",
                BoxState::Failed => "Failed",
                _ => "Exited",
            };
            let code = shown.exit_code.unwrap_or(255);
            let ago = times::since(shown.finished.unwrap_or(now), now);
            format!("{word} ({code}) {ago} ago")
        }
    }
}
