//! `boxwood logs`: what a box's main wrote, each stream to its own.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use boxwood_client::FromBox;
use boxwood_runtime::LogsRequest;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::log::{Entry, Stream};

use crate::sys::BROKEN_PIPE;
use crate::times::{self, Time};
use crate::{open_runtime, remote, wait_for};

/// Show what a box wrote
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood logs web
  boxwood logs -f --tail 10 web
  boxwood logs -t --since 10m web 2>/dev/null

A time is RFC 3339, seconds since 1970, or how long ago (90s, 10m, 1h30m). Following ends when the
box has ended and is not started again.")]
pub(crate) struct Args {
    /// Go on with what it writes
    #[arg(short, long)]
    follow: bool,
    /// Only what it wrote since then
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Only what it wrote before that
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
    /// Only the last N lines
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value = "all",
        allow_negative_numbers = true
    )]
    tail: Tail,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// Name or ID
    #[arg(value_name = "BOX")]
    name: String,
}

/// How many lines; as with Docker a negative number is all.
#[derive(Clone, Copy, Debug)]
struct Tail(Option<u64>);

impl std::str::FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<i64>() {
            _ if text == "all" => Ok(Tail(None)),
            Ok(lines) => Ok(Tail(u64::try_from(lines).ok())),
            Err(_) => Err("give a number of lines, or all".to_owned()),
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let now = Moment::now();
    let moment = |time: Option<Time>| time.map(|time| time.before(now));
    let request = LogsRequest {
        since: moment(args.since),
        until: moment(args.until),
        tail: args.tail.0,
        follow: args.follow,
    };
    let runtime = open_runtime()?;
    let listed = runtime.find(&args.name)?;
    let mut printer = Printer { timestamps: args.timestamps, in_line: [false; 2] };
    wait_for(async {
        let mut logs = runtime.logs(&listed, request)?;
        while let Some(entry) = logs.next().await? {
            match printer.print(&entry) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::from(BROKEN_PIPE));
                }
                Err(error) => return Err(error).context("can't write the log"),
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

struct Printer {
    timestamps: bool,
    /// Whether each stream is in the middle of a line.
    in_line: [bool; 2],
}

impl Printer {
    fn print(&mut self, entry: &Entry) -> io::Result<()> {
        let mut text = Vec::with_capacity(entry.bytes.len());
        let in_line = &mut self.in_line[usize::from(entry.stream == Stream::Stderr)];
        for line in entry.bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.timestamps && !*in_line {
                text.extend_from_slice(times::rfc3339(entry.time).as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice(line);
            *in_line = !line.ends_with(b"\n");
        }
        match entry.stream {
            Stream::Stdout => write(&mut io::stdout().lock(), &text),
            Stream::Stderr => write(&mut io::stderr().lock(), &text),
        }
    }
}

fn write(out: &mut dyn Write, text: &[u8]) -> io::Result<()> {
    out.write_all(text)?;
    out.flush()
}

/// The same, asked of a daemon, which puts the times in.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let now = Moment::now();
    let time = |time: Option<Time>| time.map(|time| times::rfc3339(time.before(now)));
    let which = boxwood_api::Logs {
        follow: args.follow,
        timestamps: args.timestamps,
        tail: args.tail.0,
        since: time(args.since),
        until: time(args.until),
    };
    let mut reader = daemon.logs(&args.name, &which).await?;
    remote::known(print(&mut reader).await)
}

/// Writes what a daemon tells of a log, to its end.
async fn print(reader: &mut boxwood_client::Reader) -> anyhow::Result<ExitCode> {
    while let Some(piece) = reader.next().await? {
        let written = match piece {
            FromBox::Stdout(bytes) => write(&mut io::stdout().lock(), &bytes),
            FromBox::Stderr(bytes) => write(&mut io::stderr().lock(), &bytes),
            FromBox::Reply(_) => Ok(()),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::from(BROKEN_PIPE));
            }
            Err(error) => return Err(error).context("can't write the log"),
        }
    }
    Ok(ExitCode::SUCCESS)
}
