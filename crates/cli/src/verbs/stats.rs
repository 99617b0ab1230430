//! `boxwood stats`: what boxes take of the host.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use boxwood_runtime::state::control::Usage;
use boxwood_runtime::{Listed, Runtime};
use serde_json::{Value, json};

use crate::format::Format;
use crate::{complain, open_runtime, out, wait_for};

const COLUMNS: [(&str, &str); 8] = [
    ("BOX ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
];

/// A rate is of a time: this long, as Docker has it. It is also how often the table is shown anew.
const PERIOD: Duration = Duration::from_secs(1);
/// To the beginning of a cleared screen.
const CLEAR: &[u8] = b"\x1b[2J\x1b[H";

/// Show what boxes take of the host
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood stats
  boxwood stats --no-stream --format '{{.Name}}: {{.CPUPerc}} {{.MemUsage}}' web

CPU is the VM's, of one processor; memory is the VM's share of the host's, as boxes share what they have
in common. PIDS is what the guest says.")]
pub(crate) struct Args {
    /// Also boxes that don't run
    #[arg(short, long)]
    all: bool,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// Don't shorten
    #[arg(long)]
    no_trunc: bool,
    /// A Go template, 'table TEMPLATE', or 'json'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or IDs; without any, all boxes that run
    #[arg(value_name = "BOX")]
    boxes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let format = Format::new(args.format.as_deref(), &COLUMNS)?;
    let runtime = open_runtime()?;
    wait_for(async {
        loop {
            let rows = rows(&runtime, args).await?;
            if !args.no_stream && std::io::stdout().is_terminal() {
                out::bytes(CLEAR)?;
            }
            format.print(&rows, &COLUMNS)?;
            if args.no_stream {
                return Ok(ExitCode::SUCCESS);
            }
        }
    })
}

/// Looks at all boxes at the same times, with a period in between.
async fn rows(runtime: &Runtime, args: &Args) -> anyhow::Result<Vec<Value>> {
    let mut listed = match args.boxes.as_slice() {
        [] => runtime.list(&mut |error| complain(&error.into()))?,
        names => names.iter().map(|name| runtime.find(name)).collect::<Result<_, _>>()?,
    };
    if args.boxes.is_empty() && !args.all {
        listed.retain(|one| one.record.state.is_live());
    }
    let mut before = Vec::new();
    for one in &listed {
        before.push((Instant::now(), runtime.usage(one).await?));
    }
    tokio::time::sleep(PERIOD).await;
    let mut rows = Vec::new();
    for (one, (when, usage)) in listed.iter().zip(before) {
        let (now, after) = (Instant::now(), runtime.usage(one).await?);
        let used = after.zip(usage).map(|(after, before)| {
            // The VM may be another one by now.
            let cpu = after.cpu_ns.saturating_sub(before.cpu_ns) as f64;
            (after, cpu / now.duration_since(when).as_nanos().max(1) as f64)
        });
        let processes = runtime.processes(one).await;
        rows.push(row(one, used, processes, args));
    }
    Ok(rows)
}

fn row(
    listed: &Listed,
    used: Option<(Usage, f64)>,
    processes: Option<usize>,
    args: &Args,
) -> Value {
    let spec = &listed.spec;
    let limit = spec.shape.memory_bytes();
    let (usage, cpu) = used.unwrap_or_default();
    json!({
        "Container": spec.name.as_str(),
        "ID": if args.no_trunc { spec.id.as_str() } else { spec.id.short() },
        "Name": spec.name.as_str(),
        "CPUPerc": format!("{:.2}%", cpu * 100.0),
        "MemUsage": format!("{} / {}", binary(usage.memory), binary(limit)),
        "MemPerc": format!("{:.2}%", usage.memory as f64 / limit.max(1) as f64 * 100.0),
        "NetIO": "0B / 0B",
        "BlockIO": format!("{} / {}", decimal(usage.read), decimal(usage.written)),
        "PIDs": processes.map_or("--".to_owned(), |count| count.to_string()),
    })
}

/// As Docker writes memory: four digits and a unit of 1024.
fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"], 4)
}

/// As Docker writes input and output: three digits and a unit of 1000.
fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB"], 3)
}

/// Go's `%.Ng`, for numbers below the next unit.
fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = bytes as f64;
    let mut at = 0;
    while value >= base && at + 1 < units.len() {
        value /= base;
        at += 1;
    }
    let whole = (value.max(1.0).log10().floor() as usize) + 1;
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_docker_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1 << 20, "1MiB"),
            (56_983_552, "54.34MiB"),
            (512 << 20, "512MiB"),
            (3 << 29, "1.5GiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
        for (bytes, text) in [(0, "0B"), (4096, "4.1kB"), (12_345_678, "12.3MB"), (999, "999B")] {
            assert_eq!(decimal(bytes), text);
        }
    }
}
