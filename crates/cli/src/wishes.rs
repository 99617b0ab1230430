//! What a new box is to be: the flags that `run` and `create` share, and the box that is made of them.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use boxwood_api::{CreateBox, HealthCheck, StopBox};
use boxwood_runtime::state::{AfterExit, Client};
use boxwood_runtime::{CreateRequest, HealthWishes, Held, Runtime, Start};
use boxwood_types::{BoxName, ByteSize, RestartPolicy, Shape, Signal};

use crate::health::HealthFlags;
use crate::{envfile, labels, logopts, progress, remote, terminal};

/// The longest time that a daemon takes.
pub(crate) const YEAR_MS: u64 = 31_536_000_000;

/// A process as its user describes it: main of a new box, or one beside main.
#[derive(Debug, clap::Args)]
pub(crate) struct ProcessWishes {
    /// Connect standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set an environment variable, or pass on your own
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// The directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<OsString>,
    /// The user and group: names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<OsString>,
}

/// An empty text says nothing, as Docker has it: what it would be instead of holds.
pub(crate) fn said(text: Option<OsString>) -> Option<OsString> {
    text.filter(|text| !text.is_empty())
}

impl ProcessWishes {
    /// What `--env-file` and `-e` say together.
    pub(crate) fn env(&self) -> anyhow::Result<Vec<OsString>> {
        envfile::settings(&self.env_file, self.env.clone())
    }
}

/// How boxes are asked to end.
#[derive(Debug, clap::Args)]
pub(crate) struct StopWishes {
    /// Seconds until SIGKILL instead of the box's own; -1 for ever
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
    /// The first signal instead of the box's own
    #[arg(short, long, value_name = "SIGNAL")]
    pub(crate) signal: Option<Signal>,
    /// Names or IDs
    #[arg(required = true, value_name = "BOX")]
    pub(crate) boxes: Vec<String>,
}

impl StopWishes {
    /// Milliseconds until SIGKILL, if the user says so.
    pub(crate) fn grace_ms(&self) -> anyhow::Result<Option<u64>> {
        self.time.map(grace).transpose()
    }

    /// The same, for a daemon.
    pub(crate) fn remote(&self) -> anyhow::Result<StopBox> {
        Ok(StopBox {
            signal: self.signal.map(|signal| signal.number().to_string()),
            timeout_ms: self.grace_ms()?.map(|ms| ms.min(YEAR_MS)),
        })
    }
}

/// A new box as its user describes it.
#[derive(Debug, clap::Args)]
pub(crate) struct Wishes {
    /// Remove the box when its command has ended
    #[arg(long)]
    rm: bool,
    /// Name the box
    #[arg(long, value_name = "NAME")]
    name: Option<BoxName>,
    /// Write the box's ID to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) process: ProcessWishes,
    /// Instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<OsString>,
    #[command(flatten)]
    shape: ShapeWishes,
    /// The box's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// The signal that asks the command to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,
    /// Seconds from that signal to SIGKILL; -1 for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Start the box again when it has ended by itself: no, on-failure, on-failure:N, always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: RestartPolicy,
    /// How much of the log is kept: max-size=10m, max-file=5
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    #[command(flatten)]
    health: HealthFlags,
    /// Say something about the box, for 'ps --filter'
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file, one in each line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Name or ID of the image, then the command and its arguments: what follows the image is the
    /// command's
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE")]
    image_and_command: Vec<OsString>,
}

impl Wishes {
    pub(crate) fn into_request(self, client: Client) -> anyhow::Result<CreateRequest> {
        let env = self.process.env()?;
        let (image, command) = name_and_command(self.image_and_command)?;
        Ok(CreateRequest {
            image,
            name: self.name,
            command,
            entrypoint: self.entrypoint,
            env,
            workdir: said(self.process.workdir),
            user: said(self.process.user),
            hostname: self.hostname.filter(|name| !name.is_empty()),
            shape: self.shape.shape()?,
            open_stdin: self.process.interactive,
            terminal: self.process.tty.then(terminal::size),
            labels: labels::read(&self.label_file, self.label)?,
            stop_signal: self.stop_signal,
            stop_grace_ms: self.stop_timeout.map(grace).transpose()?,
            after_exit: if self.rm { AfterExit::Remove } else { AfterExit::Keep },
            restart: self.restart,
            log: logopts::policy(&self.log_opt)?,
            health: self.health.into_wishes()?,
            client,
        })
    }
}

/// The same, for a daemon. `start` says whether it is to run at once, for nobody.
pub(crate) fn for_daemon(request: CreateRequest) -> anyhow::Result<CreateBox> {
    Ok(CreateBox {
        image: request.image,
        name: request.name.map(|name| name.to_string()),
        command: remote::texts(request.command)?,
        entrypoint: request.entrypoint.map(remote::text).transpose()?,
        env: remote::texts(request.env)?,
        workdir: request.workdir.map(remote::text).transpose()?,
        user: request.user.map(remote::text).transpose()?,
        hostname: request.hostname,
        cpus: Some(request.shape.cpus()),
        memory_bytes: Some(request.shape.memory_bytes()),
        open_stdin: request.open_stdin,
        terminal: request.terminal.map(remote::size),
        stop_signal: request.stop_signal.map(|signal| signal.number().to_string()),
        stop_timeout_ms: request.stop_grace_ms.map(|ms| ms.min(YEAR_MS)),
        labels: request.labels,
        auto_remove: request.after_exit == AfterExit::Remove,
        restart_policy: Some(request.restart.to_string()),
        health_check_disabled: request.health.disabled,
        health_check_settings: health_for_daemon(request.health),
        log_max_size_bytes: Some(request.log.max_size),
        log_max_files: Some(request.log.max_files),
        start: request.client == Client::Detached,
    })
}

/// What is said about a health check, for a daemon.
pub(crate) fn health_for_daemon(health: HealthWishes) -> Option<HealthCheck> {
    let settings = HealthCheck {
        command: health.command,
        interval_ms: health.interval_ms,
        timeout_ms: health.timeout_ms,
        start_period_ms: health.start_period_ms,
        start_interval_ms: health.start_interval_ms,
        retries: health.retries,
    };
    Some(settings).filter(|said| *said != HealthCheck::default())
}

/// vCPUs and memory.
#[derive(Debug, clap::Args)]
pub(crate) struct ShapeWishes {
    /// Memory, for example 256m or 2g; its kernel keeps some 65 MiB of it
    #[arg(short, long, value_name = "SIZE", default_value = "512m")]
    memory: ByteSize,
    /// Number of CPUs, a whole number
    #[arg(long, value_name = "N", default_value = "1")]
    cpus: u32,
}

impl ShapeWishes {
    /// The shape.
    pub(crate) fn shape(&self) -> anyhow::Result<Shape> {
        Ok(Shape::new(self.cpus, self.memory)?)
    }
}

/// Whether a box is started as soon as it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Start,
    Leave,
}

/// Makes the box. Its lock is held until it is started or let go of.
pub(crate) async fn create(
    runtime: &Runtime,
    request: &CreateRequest,
    then: Then,
) -> anyhow::Result<Held> {
    let mut work = progress::Work::new();
    let prepared = runtime
        .prepare(&request.image, request.shape, Start::First, &mut |step| {
            work.step(&step.to_string())
        })
        .await?;
    work.done();
    Ok(match then {
        Then::Start => runtime.create_to_start(request, &prepared)?,
        Then::Leave => runtime.create(request, &prepared)?,
    })
}

/// What `--stop-timeout` and `stop --time` say, in milliseconds; -1 is for ever, as Docker has it.
pub(crate) fn grace(seconds: i64) -> anyhow::Result<u64> {
    match u64::try_from(seconds) {
        Ok(seconds) => Ok(seconds.saturating_mul(1000)),
        Err(_) if seconds == -1 => Ok(u64::MAX),
        Err(_) => bail!("invalid stop timeout {seconds}: give seconds, or -1 for ever"),
    }
}

/// Splits what follows the options: an image or a box, and a command. One `--` between the two is no
/// part of either.
pub(crate) fn name_and_command(words: Vec<OsString>) -> anyhow::Result<(String, Vec<OsString>)> {
    let mut words = words.into_iter().peekable();
    let name = words.next().unwrap_or_default();
    let name = name
        .into_string()
        .map_err(|name| anyhow!("invalid name '{}': not UTF-8", name.display()))?;
    words.next_if(|word| word == "--");
    Ok((name, words.collect()))
}
