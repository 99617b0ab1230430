//! `boxwood restore` and `boxwood fork`: boxes that go on where another one was captured.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use boxwood_api::{ForkBox, RestoreSnapshot};
use boxwood_runtime::state::{AfterExit, Client};
use boxwood_runtime::{Held, RestoreRequest, Runtime, Started};
use boxwood_types::BoxName;

use crate::out::say;
use crate::{REFUSED, client, complain, envfile, labels, open_runtime, remote, wait_for};

/// Go on where a snapshot was captured, in a new box
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood restore web-warm
  boxwood restore --name web2 -e MODE=test web-warm
  boxwood restore --disk-only web-warm     # its main begins anew
  boxwood attach web2")]
pub(crate) struct Args {
    /// The box's name
    #[arg(long)]
    name: Option<BoxName>,
    /// Begin anew with its disk, also where its memory is of no use
    #[arg(long)]
    disk_only: bool,
    #[command(flatten)]
    own: Own,
    /// The snapshot's name
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
}

/// Multiply a running box: each new one goes on where it is, and it goes on, too
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood fork web
  boxwood fork -n 10 --name try web     # try-1 to try-10")]
pub(crate) struct ForkArgs {
    /// How many
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    number: u16,
    /// The name; of several boxes, what their names begin with
    #[arg(long)]
    name: Option<BoxName>,
    #[command(flatten)]
    own: Own,
    /// The box: name or ID
    #[arg(value_name = "BOX")]
    source: String,
}

/// What the new box has of its own.
#[derive(Debug, clap::Args)]
struct Own {
    /// Set environment variables of processes that are started later
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Say something about it, besides what was said about the one it goes on from
    #[arg(short, long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
}

impl Own {
    fn request(&self, name: Option<BoxName>) -> anyhow::Result<RestoreRequest> {
        Ok(RestoreRequest {
            name,
            env: envfile::settings(&self.env_file, self.env.clone())?,
            labels: labels::read(&[], self.labels.clone())?,
            after_exit: if self.rm { AfterExit::Remove } else { AfterExit::Keep },
            client: Client::Detached,
        })
    }
}

pub(crate) fn restore(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    let request = args.own.request(args.name.clone())?;
    wait_for(async {
        let snapshot = runtime.find_snapshot(&args.snapshot)?;
        let held = match args.disk_only {
            true => runtime.restore_disk(&snapshot, &request).await?,
            false => runtime.restore(&snapshot, &request).await?,
        };
        let id = held.spec().id.to_string();
        client::until_started(held.start(&runtime)?, &id).await
    })
}

pub(crate) fn fork(args: &ForkArgs) -> anyhow::Result<ExitCode> {
    let runtime = open_runtime()?;
    let request = args.own.request(args.name.clone())?;
    request.check()?;
    let requests = request.numbered(args.number)?;
    wait_for(async {
        let fork = runtime.fork(&runtime.find(&args.source)?).await?;
        let mut code = ExitCode::SUCCESS;
        let mut starting = Vec::new();
        for request in &requests {
            let child = runtime.fork_child(&fork, request).map_err(anyhow::Error::from);
            match child.and_then(|held| begin(held, &runtime)) {
                Ok(child) => starting.push(child),
                Err(error) => {
                    complain(&error);
                    code = ExitCode::from(REFUSED);
                }
            }
        }
        // They start at the same time, and are told in order.
        for (id, started) in starting {
            match client::until_started(started, &id).await {
                Ok(ExitCode::SUCCESS) => {}
                Ok(refused) => code = refused,
                Err(error) => {
                    complain(&error);
                    code = ExitCode::from(REFUSED);
                }
            }
        }
        Ok(code)
    })
}

fn begin(held: Held, runtime: &Runtime) -> anyhow::Result<(String, Started)> {
    let id = held.spec().id.to_string();
    Ok((id, held.start(runtime)?))
}

/// `restore`, asked of a daemon.
pub(crate) async fn restore_there(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let own = args.own.request(args.name.clone())?;
    let request = RestoreSnapshot {
        name: own.name.map(String::from),
        disk_only: args.disk_only,
        env: remote::texts(own.env)?,
        labels: own.labels,
        auto_remove: args.own.rm,
    };
    match daemon.restore(&args.snapshot, &request).await {
        Ok(created) => say!("{}", created.id)?,
        Err(error) => return Ok(remote::refused(error)),
    }
    Ok(ExitCode::SUCCESS)
}

/// `fork`, asked of a daemon.
pub(crate) async fn fork_there(
    args: &ForkArgs,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let own = args.own.request(args.name.clone())?;
    let request = ForkBox {
        number: Some(args.number),
        name: own.name.map(String::from),
        env: remote::texts(own.env)?,
        labels: own.labels,
        auto_remove: args.own.rm,
    };
    let forked = match daemon.fork(&args.source, &request).await {
        Ok(forked) => forked,
        Err(error) => return Ok(remote::refused(error)),
    };
    forked.boxes.iter().try_for_each(|created| say!("{}", created.id))?;
    let mut code = ExitCode::SUCCESS;
    for failure in forked.failures {
        code = remote::refused(boxwood_client::Error::Refused(failure));
    }
    Ok(code)
}
