//! `boxwood pool`: VMs that wait for boxes, so that these start at once.

use std::process::ExitCode;

use boxwood_api::{PoolVm, SetPool};
use boxwood_runtime::PoolRequest;
use boxwood_runtime::state::Member;
use boxwood_runtime::state::clock::Moment;
use boxwood_types::Shape;
use serde_json::{Value, json};

use crate::format::Format;
use crate::out::{self, say, tell};
use crate::wishes::ShapeWishes;
use crate::{open_runtime, progress, shown, times, wait_for};

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
            let pool = runtime.pool()?;
            let waiting: Vec<Waiting> = pool.members.iter().map(Waiting::from).collect();
            list(&waiting, &format, *quiet)?;
            for (shape, failure) in pool.failures {
                tell_failure(&shape.to_string(), failure.time, &failure.message);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Set { shape, image, count } => {
            let shape: Shape = shape.shape()?;
            let wanted = SetPool {
                count: *count,
                image: Some(image.clone()),
                cpus: Some(shape.cpus()),
                memory_bytes: Some(shape.memory_bytes()),
            };
            daemon.set_pool(&wanted).await?;
        }
        Verb::Ls { format, quiet } => {
            let format = Format::new(format.as_deref(), &COLUMNS)?;
            let pool = daemon.pool().await?;
            let waiting: anyhow::Result<Vec<Waiting>> =
                pool.vms.into_iter().map(Waiting::try_from).collect();
            list(&waiting?, &format, *quiet)?;
            for failure in pool.failures {
                let time = shown::moment(&failure.time)?;
                tell_failure(&failure.shape, time, &failure.message);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A VM that waits, wherever it was heard of.
struct Waiting {
    id: String,
    shape: String,
    image: String,
    created: Moment,
    ready: bool,
}

impl From<&Member> for Waiting {
    fn from(member: &Member) -> Self {
        Waiting {
            id: member.spec.id.to_string(),
            shape: member.spec.shape.to_string(),
            image: member.spec.image.name.clone(),
            created: member.spec.created,
            ready: member.is_ready(),
        }
    }
}

impl TryFrom<PoolVm> for Waiting {
    type Error = anyhow::Error;

    fn try_from(vm: PoolVm) -> anyhow::Result<Self> {
        let PoolVm { id, shape, image, created, ready } = vm;
        Ok(Waiting { id, shape, image, created: shown::moment(&created)?, ready })
    }
}

fn list(waiting: &[Waiting], format: &Format, quiet: bool) -> anyhow::Result<()> {
    let short = |id: &str| id.chars().take(12).collect::<String>();
    if quiet {
        waiting.iter().try_for_each(|vm| say!("{}", short(&vm.id)))?;
        return Ok(());
    }
    let now = Moment::now();
    let rows: Vec<Value> = waiting
        .iter()
        .map(|vm| {
            json!({
                "ID": short(&vm.id),
                "Shape": vm.shape,
                "Image": vm.image,
                "CreatedSince": format!("{} ago", times::since(vm.created, now)),
                "CreatedAt": times::rfc3339(vm.created),
                "Status": if vm.ready { "ready" } else { "starting" },
            })
        })
        .collect();
    format.print(&rows, &COLUMNS)
}

/// Nobody listens to what fills the pool, so it is told here.
fn tell_failure(shape: &str, time: Moment, message: &str) {
    let since = times::since(time, Moment::now());
    let text = format!("the pool of {shape} could not be filled {since} ago: {message}");
    tell!("{}", text.chars().map(out::printable).collect::<String>());
}
