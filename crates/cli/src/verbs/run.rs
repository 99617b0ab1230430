//! `boxwood run`: a box from an image, with its main's streams and its exact exit code.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use boxwood_runtime::state::{AfterExit, Client};
use boxwood_runtime::{CreateRequest, Runtime, Start};
use boxwood_types::{BoxName, ByteSize, Shape, Signal};

use crate::client::{self, Input, Manner, Screen, Timings};
use crate::detach::{self, DetachKeys};
use crate::{envfile, labels, open_runtime, progress, terminal, wait_for};

/// Run a command in a new box
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  boxwood run --rm busybox -- echo hello
  echo data | boxwood run --rm -i busybox wc -c
  boxwood run --rm -it busybox
  boxwood run -d --name web -m 256m my/server

Leave a terminal with ctrl-p ctrl-q: the box goes on.

Exit codes:
  125        boxwood could not start the box; the reason is on standard error
  126, 127   the command can't be executed, or was not found
  128+n      signal n ended the command
  otherwise  what the command returned"
)]
pub(crate) struct Args {
    /// Remove the box when its command has ended
    #[arg(long)]
    rm: bool,
    /// Run in the background and print the box's ID
    #[arg(short, long)]
    detach: bool,
    /// Name the box
    #[arg(long, value_name = "NAME")]
    name: Option<BoxName>,
    /// Connect standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// The keys that leave a terminal
    #[arg(long, value_name = "KEYS", default_value = detach::DEFAULT)]
    detach_keys: DetachKeys,
    /// Set an environment variable, or pass on your own
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// The user and group: names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<OsString>,
    /// Instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<OsString>,
    /// Memory, for example 256m or 2g
    #[arg(short, long, value_name = "SIZE", default_value = "512m")]
    memory: ByteSize,
    /// Number of CPUs, a whole number
    #[arg(long, value_name = "N", default_value = "1")]
    cpus: u32,
    /// The box's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// The signal that asks the command to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,
    /// Seconds from that signal to SIGKILL; -1 for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Say something about the box, for 'ps --filter'
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file, one in each line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Print how long each step took on standard error
    #[arg(long, hide = true)]
    timings: bool,
    /// Name or ID of the image, then the command and its arguments: what follows the image is the
    /// command's
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE [COMMAND")]
    image_and_command: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let detach = args.detach;
    if args.interactive && args.tty && !detach {
        terminal::check_input()?;
    }
    let manner = args.manner();
    let request = args.into_request()?;
    request.check()?;
    let runtime = open_runtime()?;
    wait_for(async {
        let held = create(&runtime, &request).await?;
        let id = held.spec().id.clone();
        let started = held.start(&runtime)?;
        // While the box starts, what earlier crashes left is put right.
        runtime.recover()?;
        if detach {
            client::until_started(started, id.as_str()).await
        } else {
            client::until_ended(&runtime, started, &manner).await
        }
    })
}

async fn create(
    runtime: &Runtime,
    request: &CreateRequest,
) -> anyhow::Result<boxwood_runtime::Held> {
    let mut work = progress::Work::new();
    let prepared = runtime
        .prepare(&request.image, request.shape, Start::First, &mut |step| {
            work.step(&step.to_string())
        })
        .await?;
    work.done();
    Ok(runtime.create(request, &prepared)?)
}

/// What `--stop-timeout` and `stop --time` say, in milliseconds; -1 is for ever, as Docker has it.
pub(crate) fn grace(seconds: i64) -> anyhow::Result<u64> {
    match u64::try_from(seconds) {
        Ok(seconds) => Ok(seconds.saturating_mul(1000)),
        Err(_) if seconds == -1 => Ok(u64::MAX),
        Err(_) => bail!("invalid stop timeout {seconds}: give seconds, or -1 for ever"),
    }
}

/// Splits what follows the options. One `--` between image and command is no part of either.
fn image_and_command(words: Vec<OsString>) -> anyhow::Result<(String, Vec<OsString>)> {
    let mut words = words.into_iter().peekable();
    let image = words.next().unwrap_or_default();
    let image = image
        .into_string()
        .map_err(|image| anyhow!("invalid image name '{}': not UTF-8", image.display()))?;
    words.next_if(|word| word == "--");
    Ok((image, words.collect()))
}

impl Args {
    fn manner(&self) -> Manner {
        let input = match (self.interactive, self.tty) {
            (false, _) => Input::None,
            (true, false) => Input::Piped,
            (true, true) => Input::Terminal(self.detach_keys.clone()),
        };
        let screen = if self.tty { Screen::Terminal } else { Screen::None };
        let timings = if self.timings { Timings::Told } else { Timings::Quiet };
        Manner { input, screen, timings }
    }

    fn into_request(self) -> anyhow::Result<CreateRequest> {
        let env = envfile::settings(&self.env_file, self.env)?;
        let (image, command) = image_and_command(self.image_and_command)?;
        Ok(CreateRequest {
            image,
            name: self.name,
            command,
            entrypoint: self.entrypoint,
            env,
            workdir: self.workdir,
            user: self.user,
            hostname: self.hostname,
            shape: Shape::new(self.cpus, self.memory)?,
            open_stdin: self.interactive,
            terminal: self.tty.then(terminal::size),
            labels: labels::read(&self.label_file, self.label)?,
            stop_signal: self.stop_signal,
            stop_grace_ms: self.stop_timeout.map(grace).transpose()?,
            after_exit: if self.rm { AfterExit::Remove } else { AfterExit::Keep },
            client: if self.detach { Client::Detached } else { Client::Attached },
        })
    }
}
