//! `boxwood stats`: what boxes take of the host.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use boxwood_api::{BoxStats, ListBoxes};
use boxwood_runtime::state::control::Usage;
use serde_json::{Value, json};

use crate::format::Format;
use crate::{complain, open_runtime, out, remote, wait_for};

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

/// One look at a box.
struct Look {
    when: Instant,
    id: String,
    name: String,
    limit: u64,
    /// What its VM has taken so far; nothing for a box that has none.
    usage: Option<Usage>,
    processes: Option<u64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let format = Format::new(args.format.as_deref(), &COLUMNS)?;
    let runtime = open_runtime()?;
    wait_for(show(args, &format, async || {
        let mut listed = match args.boxes.as_slice() {
            [] => runtime.list(&mut |error| complain(&error.into()))?,
            names => names.iter().map(|name| runtime.find(name)).collect::<Result<_, _>>()?,
        };
        if args.boxes.is_empty() && !args.all {
            listed.retain(|one| one.record.state.is_live());
        }
        let mut looks = Vec::new();
        for one in &listed {
            let usage = runtime.usage(one).await?;
            looks.push(Look {
                when: Instant::now(),
                id: one.spec.id.to_string(),
                name: one.spec.name.to_string(),
                limit: one.spec.shape.memory_bytes(),
                usage,
                processes: runtime.processes(one).await.map(|count| count as u64),
            });
        }
        Ok(looks)
    }))
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let format = Format::new(args.format.as_deref(), &COLUMNS)?;
    show(args, &format, async || {
        let names = match args.boxes.as_slice() {
            [] => {
                let which = ListBoxes { all: args.all, ..ListBoxes::default() };
                let listed = daemon.list(&which).await?;
                listed.boxes.into_iter().map(|one| one.id).collect()
            }
            names => names.to_vec(),
        };
        let mut looks = Vec::new();
        for name in names {
            match daemon.stats(&name).await {
                Ok(stats) => looks.push(Look::from(stats)),
                // It went since it was listed.
                Err(error) if args.boxes.is_empty() && remote::is_not_found(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(looks)
    })
    .await
}

impl From<BoxStats> for Look {
    fn from(stats: BoxStats) -> Self {
        let usage = stats.usage.map(|usage| Usage {
            cpu_ns: usage.cpu_ns,
            memory: usage.memory_bytes,
            read: usage.read_bytes,
            written: usage.written_bytes,
        });
        Look {
            when: Instant::now(),
            id: stats.id,
            name: stats.name,
            limit: stats.memory_limit_bytes,
            usage,
            processes: stats.processes,
        }
    }
}

/// Looks at all boxes with a period in between, and shows the difference: once, or again and again.
async fn show(
    args: &Args,
    format: &Format,
    look: impl AsyncFn() -> anyhow::Result<Vec<Look>>,
) -> anyhow::Result<ExitCode> {
    loop {
        let before = look().await?;
        // A rate is measured over time: there is no event when a VM takes more.
        tokio::time::sleep(PERIOD).await;
        let rows: Vec<Value> =
            look().await?.iter().map(|now| row(now, before_of(&before, now), args)).collect();
        if !args.no_stream && std::io::stdout().is_terminal() {
            out::bytes(CLEAR)?;
        }
        format.print(&rows, &COLUMNS)?;
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn before_of<'a>(before: &'a [Look], now: &Look) -> Option<&'a Look> {
    before.iter().find(|one| one.id == now.id)
}

/// How much of one processor a VM took between two looks.
fn share(before: Option<&Look>, now: &Look) -> f64 {
    let Some(before) = before else { return 0.0 };
    let (Some(one), Some(other)) = (before.usage, now.usage) else { return 0.0 };
    // The VM may be another one by now.
    let took = other.cpu_ns.saturating_sub(one.cpu_ns) as f64;
    took / now.when.duration_since(before.when).as_nanos().max(1) as f64
}

fn row(look: &Look, before: Option<&Look>, args: &Args) -> Value {
    let usage = look.usage.unwrap_or_default();
    let short = || look.id.chars().take(12).collect();
    json!({
        "Container": look.name,
        "ID": if args.no_trunc { look.id.clone() } else { short() },
        "Name": look.name,
        "CPUPerc": format!("{:.2}%", share(before, look) * 100.0),
        "MemUsage": format!("{} / {}", binary(usage.memory), binary(look.limit)),
        "MemPerc": format!("{:.2}%", usage.memory as f64 / look.limit.max(1) as f64 * 100.0),
        "NetIO": "0B / 0B",
        "BlockIO": format!("{} / {}", decimal(usage.read), decimal(usage.written)),
        "PIDs": look.processes.map_or("--".to_owned(), |count| count.to_string()),
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
