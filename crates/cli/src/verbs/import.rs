//! `boxwood import`: a root file system becomes an image.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use boxwood_runtime::Error;
use boxwood_runtime::image::{ImageConfig, Import, Source};
use boxwood_types::ImageName;

use super::load::show;
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
    args.check()?;
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
    let store = open_runtime()?.images()?;
    let mut work = progress::Work::new();
    let import = Import { source, name: args.name.clone(), config };
    let loaded = store.import(import, &mut |step| show(&mut work, &step))?;
    work.done();
    say!("{}", loaded.id)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Refuses what `run` would refuse of its own flags.
    fn check(&self) -> anyhow::Result<()> {
        let named = |setting: &&String| setting.find('=').is_some_and(|at| at > 0);
        if let Some(setting) = self.env.iter().find(|setting| !named(setting)) {
            bail!("invalid environment variable '{setting}': write NAME=value");
        }
        match &self.workdir {
            Some(path) if !path.starts_with('/') => Err(Error::BadWorkdir(path.clone()).into()),
            _ => Ok(()),
        }
    }
}
