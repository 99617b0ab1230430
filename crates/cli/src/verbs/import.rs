//! `boxwood import`: a root file system becomes an image.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use boxwood_api::ImportImage;
use boxwood_runtime::check_image_config;
use boxwood_runtime::image::{ImageConfig, Import, Source};
use boxwood_types::ImageName;

use super::load::{archive, show};
use crate::out::say;
use crate::{open_runtime, progress};

/// Make an image of a root file system: a tar archive or a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood import rootfs.tar.gz my/image
  boxwood import --cmd /bin/sh rootfs/ my/image
  debootstrap stable rootfs && boxwood import rootfs debian")]
pub(crate) struct Args {
    /// A word of the image's command; give it once for each
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// A word of the image's entrypoint; give it once for each
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// An environment variable of the image
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The image's working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The image's user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// A tar archive (also compressed), a directory, or - for standard input
    source: PathBuf,
    /// The image's name
    name: Option<ImageName>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let source = if args.source == Path::new("-") {
        Source::Stream(Box::new(io::stdin()))
    } else {
        Source::Path(args.source.clone())
    };
    let config = ImageConfig {
        cmd: args.cmd.clone(),
        entrypoint: args.entrypoint.clone(),
        env: args.env.clone(),
        working_dir: args.workdir.clone(),
        user: args.user.clone(),
        ..ImageConfig::default()
    };
    check_image_config(&config)?;
    let store = open_runtime()?.images()?;
    let mut work = progress::Work::new();
    let import = Import { source, name: args.name.clone(), config };
    let loaded = store.import(import, &mut |step| show(&mut work, &step))?;
    work.done();
    say!("{}", loaded.id)?;
    Ok(ExitCode::SUCCESS)
}

/// The same, asked of a daemon: the archive is sent to it.
pub(crate) async fn remote(
    args: Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let archive = archive(Some(&args.source).filter(|source| *source != Path::new("-")))?;
    let how = ImportImage {
        name: args.name.map(|name| name.to_string()),
        cmd: args.cmd,
        entrypoint: args.entrypoint,
        env: args.env,
        workdir: args.workdir,
        user: args.user,
    };
    say!("{}", daemon.import(&how, archive).await?.id)?;
    Ok(ExitCode::SUCCESS)
}
