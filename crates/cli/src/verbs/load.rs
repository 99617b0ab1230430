//! `boxwood load`: images out of archives.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use boxwood_runtime::image::{Progress, Source};
use boxwood_types::{ByteSize, ImageName};

use crate::out::say;
use crate::{open_runtime, progress};

/// Load images from an archive or an OCI layout directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  docker save my/image | boxwood load
  boxwood load -i image.tar
  boxwood load -i oci-layout-directory/")]
pub(crate) struct Args {
    /// A Docker or OCI archive (also compressed), or an OCI layout directory; else standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print only the IDs
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let source = match &args.input {
        Some(path) => Source::Path(path.clone()),
        None if io::stdin().is_terminal() => {
            bail!("there is nothing to load: give an archive with -i, or on standard input")
        }
        None => Source::Stream(Box::new(io::stdin())),
    };
    let store = open_runtime()?.images()?;
    let mut work = progress::Work::new();
    let loaded = store.load(source, &mut |step| show(&mut work, &step))?;
    work.done();
    for image in loaded {
        if args.quiet || image.names.is_empty() {
            say!("{}{}", if args.quiet { "" } else { "Loaded image ID: " }, image.id)?;
        } else {
            for name in image.names.iter().map(ImageName::familiar) {
                say!("Loaded image: {name}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How far a load or import is.
pub(super) fn show(work: &mut progress::Work, step: &Progress) {
    match step {
        Progress::Reading { bytes } => {
            work.detail(&format!("reading the archive: {}", ByteSize::from_bytes(*bytes)));
        }
        Progress::Layer { layer, layers, bytes, .. } => {
            let bytes = ByteSize::from_bytes(*bytes);
            work.detail(&format!("layer {layer} of {layers}: {bytes}"));
        }
        Progress::Writing => work.detail("writing the image"),
        Progress::Skipped { path, reason } => {
            work.step(&format!("left out {}: {reason}", path.display()));
        }
        _ => {}
    }
}

/// The same, asked of a daemon: the archive is sent to it.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    if args.input.is_none() && io::stdin().is_terminal() {
        bail!("there is nothing to load: give an archive with -i, or on standard input")
    }
    let archive = archive(args.input.as_ref())?;
    for image in daemon.load(archive).await?.images {
        if args.quiet || image.names.is_empty() {
            say!("{}{}", if args.quiet { "" } else { "Loaded image ID: " }, image.id)?;
        } else {
            for name in image.names {
                say!("Loaded image: {}", name.parse::<ImageName>()?.familiar())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is sent to a daemon: this file, or standard input.
pub(super) fn archive(input: Option<&PathBuf>) -> anyhow::Result<boxwood_client::Body> {
    let Some(path) = input else { return Ok(boxwood_client::body(tokio::io::stdin())) };
    if path.is_dir() {
        bail!("a directory can't be sent to a daemon: give an archive, such as 'tar -c' makes")
    }
    let named = || format!("can't read {}", path.display());
    let file = std::fs::File::open(path).with_context(named)?;
    Ok(boxwood_client::body(tokio::fs::File::from_std(file)))
}
