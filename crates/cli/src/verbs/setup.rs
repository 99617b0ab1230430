//! `boxwood setup`: everything a first box would otherwise have to wait for.

use std::process::ExitCode;

use boxwood_runtime::Start;
use boxwood_types::{ByteSize, Shape};

use crate::out::say;
use crate::{open_runtime, progress, wait_for};

/// Get everything ready: kernel, guest, default image, template
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood setup
  boxwood setup --cpus 2 --memory 2g")]
pub(crate) struct Args {
    /// Memory of the boxes that are to start at once
    #[arg(short, long, value_name = "SIZE", default_value = "512m")]
    memory: ByteSize,
    /// CPUs of the boxes that are to start at once
    #[arg(long, value_name = "N", default_value = "1")]
    cpus: u32,
    /// Look for a newer kernel though one is there
    #[arg(long)]
    refresh: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shape = Shape::new(args.cpus, args.memory)?;
    let runtime = open_runtime()?;
    let mut work = progress::Work::new();
    let result = wait_for(async {
        let mut show = |step: boxwood_runtime::Progress| work.step(&step.to_string());
        if args.refresh {
            runtime.refresh(&mut show).await?;
        }
        runtime.prepare("busybox", shape, Start::First, &mut show).await?;
        // What its boxes start from first is made from this one.
        Ok(runtime.prepare("busybox", shape, Start::Again, &mut show).await?)
    });
    work.done();
    let prepared = result?;
    say!("ready: template {}, image busybox", prepared.template.key)?;
    Ok(ExitCode::SUCCESS)
}
