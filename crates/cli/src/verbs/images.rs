//! `boxwood images`: what is in the image store.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use boxwood_api::ImageInfo;
use boxwood_runtime::image::ImageSummary;
use boxwood_runtime::state::clock::Moment;
use boxwood_types::ByteSize;
use serde_json::{Value, json};

use crate::format::Format;
use crate::out::{say, tell};
use crate::{open_runtime, shown, times};

const COLUMNS: [(&str, &str); 5] = [
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

/// List images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood images
  boxwood images --format '{{.Repository}}:{{.Tag}}'")]
pub(crate) struct Args {
    /// Only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// Don't shorten IDs
    #[arg(long)]
    no_trunc: bool,
    /// A Go template, 'table TEMPLATE', or 'json'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let format = if args.json { Some("json") } else { args.format.as_deref() };
    let format = Format::new(format, &COLUMNS)?;
    print(args, &format, &open_runtime()?.images()?.list()?)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let format = if args.json { Some("json") } else { args.format.as_deref() };
    let format = Format::new(format, &COLUMNS)?;
    let images = daemon.images().await?.images.into_iter().map(summary);
    print(args, &format, &images.collect::<anyhow::Result<Vec<_>>>()?)
}

fn summary(info: ImageInfo) -> anyhow::Result<ImageSummary> {
    let created = info.created.as_deref().map(shown::moment).transpose()?;
    Ok(ImageSummary {
        id: info.id.parse()?,
        names: info.names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        created: created.map(|moment| UNIX_EPOCH + Duration::from_nanos(moment.0)),
        content_bytes: info.content_bytes,
        disk_bytes: info.disk_bytes,
        damaged: info.damaged,
    })
}

fn print(args: &Args, format: &Format, images: &[ImageSummary]) -> anyhow::Result<ExitCode> {
    let now = Moment::now();
    let mut rows = Vec::new();
    for image in images {
        if let Some(damage) = &image.damaged {
            tell!("image {}: {damage}", image.id.short());
        }
        let mut names: Vec<(&str, &str)> =
            image.names.iter().map(|name| (name.familiar_repository(), name.tag())).collect();
        if names.is_empty() {
            names.push(("<none>", "<none>"));
        }
        rows.extend(names.into_iter().map(|name| row(image, name, now, args.no_trunc)));
    }
    if args.quiet {
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
        ids.dedup();
        ids.into_iter().try_for_each(|id| say!("{id}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    format.print(&rows, &COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}

fn row(image: &ImageSummary, (repository, tag): (&str, &str), now: Moment, whole: bool) -> Value {
    let created = image.created.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let created = created.map(|since| Moment(since.as_nanos() as u64));
    json!({
        "Repository": repository,
        "Tag": tag,
        "ID": if whole { image.id.as_str() } else { image.id.short() },
        "CreatedAt": created.map(times::rfc3339).unwrap_or_default(),
        "CreatedSince": created
            .map_or_else(|| "N/A".to_owned(), |at| format!("{} ago", times::since(at, now))),
        "Size": ByteSize::from_bytes(image.content_bytes).to_string(),
        "DiskUsage": ByteSize::from_bytes(image.disk_bytes).to_string(),
    })
}
