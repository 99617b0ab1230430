//! `boxwood completion`: scripts that let a shell complete verbs and flags.

use std::io;
use std::process::ExitCode;

use clap_complete::{Shell, generate};

/// Print a completion script for your shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  boxwood completion bash > /etc/bash_completion.d/boxwood")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, command: &mut clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    generate(args.shell, command, "boxwood", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}
