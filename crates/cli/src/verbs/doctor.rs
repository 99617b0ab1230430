//! `boxwood doctor`: can a box run here, and if not, what to do.

use std::io::IsTerminal;
use std::process::ExitCode;

use boxwood_runtime::setup::Style;
use boxwood_runtime::{Locations, examine};

use crate::out::say;
use crate::{REFUSED, wait_for};

/// Check whether boxes can run here, and say what to do if not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood doctor
  boxwood doctor --json
  BOXWOOD_ACCEL=tcg boxwood doctor    whether boxes can run under software emulation

Exit codes:
  0    a box can run
  125  it can't: each failing line says what to do")]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let report = wait_for(async { Ok(examine(&Locations::from_environment()?).await?) })?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        crate::out::bytes(
            report.render(if colour { Style::Colour } else { Style::Plain }).as_bytes(),
        )?;
    }
    Ok(ExitCode::from(if report.can_run() { 0 } else { REFUSED }))
}
