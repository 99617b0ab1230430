//! `boxwood rmi`: images go, or lose a name.

use std::process::ExitCode;

use boxwood_api::DeleteImage;
use boxwood_runtime::image::Removal;
use boxwood_types::{Digest, ImageName};

use crate::out::say;
use crate::{REFUSED, complain, open_runtime};

/// Remove images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood rmi my/image:1.0
  boxwood rmi -f 3f57d9401f8d")]
pub(crate) struct Args {
    /// Take all names away from an ID, also while boxes or snapshots use the image
    #[arg(short, long)]
    force: bool,
    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    let users = runtime.image_users(&mut |error| complain(&error.into()))?;
    let used = |id: &Digest| users.of(id);
    let store = runtime.images()?;
    let mut code = ExitCode::SUCCESS;
    for image in &args.images {
        let removal = if args.force { Removal::Forced(&used) } else { Removal::Careful(&used) };
        match store.remove(image, removal) {
            Ok(removed) => {
                for name in removed.untagged.iter().map(ImageName::familiar) {
                    say!("Untagged: {name}")?;
                }
                if let Some(id) = removed.deleted {
                    say!("Deleted: {id}")?;
                }
            }
            Err(error) => {
                complain(&error.into());
                code = ExitCode::from(REFUSED);
            }
        }
    }
    Ok(code)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let how = DeleteImage { force: args.force };
    let mut code = ExitCode::SUCCESS;
    for image in &args.images {
        match daemon.remove_image(image, &how).await {
            Ok(removed) => {
                for name in removed.untagged {
                    say!("Untagged: {}", name.parse::<ImageName>()?.familiar())?;
                }
                if let Some(id) = removed.deleted {
                    say!("Deleted: {id}")?;
                }
            }
            Err(error) => {
                complain(&error.into());
                code = ExitCode::from(REFUSED);
            }
        }
    }
    Ok(code)
}
