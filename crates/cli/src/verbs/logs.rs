//! `boxwood logs`: what a box's main wrote, each stream to its own.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use boxwood_runtime::state::log::Stream;

use crate::sys::BROKEN_PIPE;
use crate::{open_runtime, times};

/// Show what a box wrote
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood logs web
  boxwood logs -t web 2>/dev/null")]
pub(crate) struct Args {
    /// Begin each piece with its time
    #[arg(short, long)]
    timestamps: bool,
    /// Name or ID
    #[arg(value_name = "BOX")]
    name: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    let listed = runtime.find(&args.name)?;
    let Some(mut reader) = runtime.logs(&listed)? else { return Ok(ExitCode::SUCCESS) };
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    while let Some(entry) = reader.next_entry().context("can't read the log")? {
        let out: &mut dyn Write =
            if entry.stream == Stream::Stdout { &mut stdout } else { &mut stderr };
        let written = match args.timestamps {
            false => out.write_all(&entry.bytes),
            true => stamped(out, &times::rfc3339(entry.time), &entry.bytes),
        };
        match written.and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::from(BROKEN_PIPE));
            }
            Err(error) => return Err(error).context("can't write the log"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn stamped(out: &mut dyn Write, time: &str, bytes: &[u8]) -> io::Result<()> {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        out.write_all(time.as_bytes())?;
        out.write_all(b" ")?;
        out.write_all(line)?;
    }
    Ok(())
}
