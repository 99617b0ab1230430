//! `boxwood pool`: VMs that wait for boxes, so that these start at once.

use std::process::ExitCode;

use boxwood_runtime::PoolRequest;
use boxwood_runtime::state::clock::Moment;
use boxwood_types::Shape;
use serde_json::{Value, json};

use crate::format::Format;
use crate::out::say;
use crate::wishes::ShapeWishes;
use crate::{open_runtime, progress, times, wait_for};

const COLUMNS: [(&str, &str); 5] = [
    ("ID", "ID"),
    ("SHAPE", "Shape"),
    ("IMAGE", "Image"),
    ("CREATED", "CreatedSince"),
    ("STATUS", "Status"),
];

/// Keep VMs ready, so that boxes start at once
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood pool set 4
  boxwood pool set -m 1g --image debian 2
  boxwood pool ls
  boxwood pool set 0

Each VM takes some 40 MB of memory while it waits. A box of the shape and image takes one over when
it is started, and its replacement is begun at once. Started for another image, the pool turns to that.")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Set how many VMs of a shape wait; 0 ends them
    #[command(after_help = "Examples:
  boxwood pool set 4
  boxwood pool set -m 1g --image debian 2
  boxwood pool set 0")]
    Set {
        #[command(flatten)]
        shape: ShapeWishes,
        /// The image that they are ready for, to begin with
        #[arg(long, default_value = "busybox")]
        image: String,
        /// How many
        #[arg(value_name = "N")]
        count: u32,
    },
    /// List the VMs that wait
    #[command(after_help = "Examples:
  boxwood pool ls
  boxwood pool ls --format '{{.ID}} {{.Status}}'")]
    Ls {
        /// A Go template, 'table TEMPLATE', or 'json'
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
        /// Only the IDs
        #[arg(short, long)]
        quiet: bool,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    match &args.verb {
        Verb::Set { shape, image, count } => {
            let shape: Shape = shape.shape()?;
            let request = PoolRequest { shape, count: *count, image: image.clone() };
            let mut work = progress::Work::new();
            let set = wait_for(async {
                let mut step = |step: boxwood_runtime::Progress| work.step(&step.to_string());
                Ok(runtime.set_pool(&request, &mut step).await?)
            });
            work.done();
            set?;
        }
        Verb::Ls { format, quiet } => {
            let format = Format::new(format.as_deref(), &COLUMNS)?;
            let (_, members) = runtime.pool()?;
            if *quiet {
                members.iter().try_for_each(|member| say!("{}", member.spec.id.short()))?;
                return Ok(ExitCode::SUCCESS);
            }
            let now = Moment::now();
            let rows: Vec<Value> = members
                .iter()
                .map(|member| {
                    json!({
                        "ID": member.spec.id.short(),
                        "Shape": member.spec.shape.to_string(),
                        "Image": member.spec.image.name,
                        "CreatedSince": format!("{} ago", times::since(member.spec.created, now)),
                        "CreatedAt": times::rfc3339(member.spec.created),
                        "Status": if member.is_ready() { "ready" } else { "starting" },
                    })
                })
                .collect();
            format.print(&rows, &COLUMNS)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
