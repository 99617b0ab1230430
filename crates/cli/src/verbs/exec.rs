//! `boxwood exec`: a process beside main, with its streams and its exact exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{anyhow, bail};
use boxwood_api::{CreateExec, ErrorKind};
use boxwood_runtime::state::Client as Staying;
use boxwood_runtime::state::control::{Reply, SessionEnd};
use boxwood_runtime::{ExecRequest, FromShim, Session};
use boxwood_types::ExitStatus;

use crate::client::{Client, Input, Manner, Parting, Place, Screen, Timings, Whose, refused};
use crate::detach::{self, DetachKeys};
use crate::out::tell;
use crate::sys::BROKEN_PIPE;
use crate::wishes::{self, ProcessWishes};
use crate::{open_runtime, remote, terminal, wait_for};

/// What `timeout` of coreutils returns, too.
const TIMED_OUT: u8 = 124;
/// 128 + SIGKILL: what became of a process whose box ended under it.
const KILLED: u8 = 137;
/// The longest time that a daemon takes.
const YEAR_MS: u64 = 31_536_000_000;

/// Run a command in a running box
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood exec web ps
  boxwood exec -it web sh
  tar -c . | boxwood exec -i -w /srv web tar -x
  boxwood exec --timeout 30s -e MODE=fast web ./check

The command and everything it starts end when this client ends, unless it is detached.
Signals that this client gets are handed on to all of it.

Exit codes:
  124        its --timeout was up; everything it had started was killed
  125        boxwood could not do it; the reason is on standard error
  126, 127   the command can't be executed, or was not found
  128+n      signal n ended the command
  255        how it ended is not known: what supervised it has died
  otherwise  what the command returned")]
pub(crate) struct Args {
    /// Run in the background and return when it has started
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    process: ProcessWishes,
    /// Kill it, with everything it started, after this time: 30, 1.5s, 5m, 1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    timeout: Option<Timeout>,
    /// The keys that leave a terminal
    #[arg(long, value_name = "KEYS", default_value = detach::DEFAULT)]
    detach_keys: DetachKeys,
    /// Name or ID of the box, then the command and its arguments: what follows the box is the command's
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_names = ["BOX", "COMMAND"])]
    box_and_command: Vec<OsString>,
}

/// How long a command may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timeout {
    ms: u64,
}

/// Why a text is no such time.
#[derive(Debug, thiserror::Error)]
#[error("write a time above 0, such as 30, 1.5s, 5m or 1h")]
struct TimeoutError;

impl FromStr for Timeout {
    type Err = TimeoutError;

    fn from_str(text: &str) -> Result<Self, TimeoutError> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = match unit {
            "" | "s" => 1000.0,
            "ms" => 1.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return Err(TimeoutError),
        };
        let ms = number.parse::<f64>().map_err(|_| TimeoutError)? * unit;
        // A float becomes the nearest number there is: a time beyond all times stays one.
        if ms > 0.0 { Ok(Timeout { ms: (ms.ceil()) as u64 }) } else { Err(TimeoutError) }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.process.interactive && args.process.tty && !args.detach {
        terminal::check_input()?;
    }
    let manner = args.manner();
    let timeout = args.timeout;
    let (name, request) = args.into_request()?;
    let shown = shown(&request.command, timeout);
    request.check()?;
    let runtime = open_runtime()?;
    wait_for(async {
        let listed = runtime.find(&name)?;
        let mut session = runtime.exec(&listed, &request).await?;
        if request.client == Staying::Detached {
            return until_started(&name, session).await;
        }
        let Session { reader, writer } = &mut session;
        let place = Place::Here { runtime: &runtime, dir: &listed.dir };
        let client = Client { place, whose: Whose::Session };
        let parting = client.follow(reader, writer, &manner).await?;
        conclude(&name, parting, &shown, "its supervisor ended")
    })
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    if args.process.interactive && args.process.tty && !args.detach {
        terminal::check_input()?;
    }
    let (manner, timeout) = (args.manner(), args.timeout);
    let (name, request) = args.into_request()?;
    let shown = shown(&request.command, timeout);
    let asked = CreateExec {
        command: remote::texts(request.command)?,
        env: remote::texts(request.env)?,
        workdir: request.workdir.map(remote::text).transpose()?,
        user: request.user.map(remote::text).transpose()?,
        open_stdin: request.open_stdin,
        terminal: request.terminal.map(remote::size),
        timeout_ms: request.timeout_ms.map(|ms| ms.min(YEAR_MS)),
        detach: request.client == Staying::Detached,
    };
    let id = daemon.create_exec(&name, &asked).await?.id;
    if asked.detach {
        return match daemon.start_detached(&id).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                let end = daemon.get_exec(&id).await.ok().and_then(|info| info.end);
                let started = error.kind() != Some(ErrorKind::NotStarted);
                // The rest names its box.
                let error = anyhow::Error::from(error);
                crate::complain(&if started { error } else { anyhow!("box {name}: {error}") });
                Ok(ExitCode::from(end.map_or(crate::REFUSED, |end| end.code)))
            }
        };
    }
    let (mut reader, mut writer) = daemon.start_exec(&id).await?;
    let client = Client { place: Place::There { daemon, name: &id }, whose: Whose::Session };
    match client.follow(&mut reader, &mut writer, &manner).await {
        Ok(parting) => conclude(&name, parting, &shown, "the daemon or the connection to it ended"),
        Err(error) => remote::known(Err(error)),
    }
}

impl Args {
    fn manner(&self) -> Manner {
        let input = match (self.process.interactive, self.process.tty) {
            (false, _) => Input::None,
            (true, false) => Input::Piped,
            (true, true) => Input::Terminal(self.detach_keys.clone()),
        };
        let screen = if self.process.tty { Screen::Terminal } else { Screen::None };
        Manner { input, screen, timings: Timings::Quiet }
    }

    /// The box, and what is to run in it.
    fn into_request(self) -> anyhow::Result<(String, ExecRequest)> {
        let (name, command) = wishes::name_and_command(self.box_and_command)?;
        let process = self.process;
        let request = ExecRequest {
            env: process.env()?,
            command,
            workdir: wishes::said(process.workdir),
            user: wishes::said(process.user),
            open_stdin: process.interactive && !self.detach,
            terminal: process.tty.then(terminal::size),
            timeout_ms: self.timeout.map(|timeout| timeout.ms),
            client: if self.detach { Staying::Detached } else { Staying::Attached },
        };
        Ok((name, request))
    }
}

/// What is said when the time is up.
fn shown(command: &[OsString], timeout: Option<Timeout>) -> String {
    let command = command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let time = timeout.map_or(0.0, |timeout| timeout.ms as f64 / 1000.0);
    format!("'{command}' was killed, with the processes of its session: its {time} s were up")
}

/// Waits until a detached command runs.
async fn until_started(name: &str, session: Session) -> anyhow::Result<ExitCode> {
    let mut session = session;
    match session.reader.next().await? {
        Some(FromShim::Reply(Reply::SessionStarted { .. })) => Ok(ExitCode::SUCCESS),
        Some(FromShim::Reply(last)) => conclude(name, Parting::Told(last), "", ""),
        _ => {
            bail!("the supervisor of box {name} ended without a word; see 'boxwood inspect {name}'")
        }
    }
}

/// The exit code of a command, and what there is to say about it: `timed_out` when its time was up, `hung_up`
/// when nobody is left who could tell how it ended.
fn conclude(
    id: &str,
    parting: Parting,
    timed_out: &str,
    hung_up: &str,
) -> anyhow::Result<ExitCode> {
    let code = match parting {
        Parting::Told(Reply::SessionEnded { end }) => match end {
            SessionEnd::Exited { status } => status.shell_code(),
            SessionEnd::TimedOut => {
                tell!("{timed_out}");
                TIMED_OUT
            }
            SessionEnd::Refused { refusal, reason } => {
                crate::complain(&anyhow!("box {id}: {reason}"));
                refusal.shell_code()
            }
            SessionEnd::Failed { reason } => bail!("box {id} could not run it: {reason}"),
        },
        Parting::Told(Reply::Refused { state, message }) => {
            return Err(refused(id, state, &message));
        }
        Parting::Told(Reply::Ended { exit, .. }) => {
            tell!("box {id} ended, and the command with it: {}", exit.reason);
            KILLED
        }
        Parting::Told(_) | Parting::HungUp => {
            tell!("how it ended in box {id} is not known: {hung_up}; see 'boxwood inspect {id}'");
            ExitStatus::Unknown.shell_code()
        }
        Parting::Detached => {
            tell!("detached; the command goes on in box {id}");
            0
        }
        Parting::Signalled(signal) => 128 + signal.number(),
        Parting::BrokenPipe => BROKEN_PIPE,
    };
    Ok(ExitCode::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h13_a_timeout_is_a_time_above_0() {
        let ms = |text: &str| text.parse::<Timeout>().ok().map(|timeout| timeout.ms);
        for (text, expected) in [
            ("30", 30_000),
            ("1.5s", 1500),
            ("0.0001", 1),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("250ms", 250),
            ("99999999999999999999", u64::MAX),
        ] {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        for bad in ["", "0", "0s", "-1", "x", "1x", "1 s", ".", "1.2.3", "inf", "nan", "5 m"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
}
