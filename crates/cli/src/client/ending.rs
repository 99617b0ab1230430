//! The end of a client of main's: what it was, and which exit code that makes.

use std::process::ExitCode;

use boxwood_runtime::state::control::Reply;
use boxwood_runtime::state::{ExitRecord, StateError};
use boxwood_runtime::{Error, FromShim, Runtime, Started};
use boxwood_types::{BoxState, ExitReason, ExitStatus};

use super::{Client, Manner, Parting, Place, Whose};
use crate::out::{say, tell};
use crate::sys::BROKEN_PIPE;
use crate::{remote, shown};

/// Follows a box that this process has started to its end, and returns main's exit code.
pub(crate) async fn until_ended(
    runtime: &Runtime,
    started: Started,
    manner: &Manner,
) -> anyhow::Result<ExitCode> {
    let mut started = started;
    let Started { dir, reader, writer, .. } = &mut started;
    let place = Place::Here { runtime, dir };
    let client = Client { place, whose: Whose::StartedMain };
    let parting = client.follow(reader, writer, manner).await?;
    conclude(place, parting).await
}

/// Why a box refuses something. A daemon that hears nothing of the box's shim knows no state: what it says names the
/// box itself.
pub(crate) fn refused(id: &str, state: BoxState, message: &str) -> anyhow::Error {
    match message.starts_with("box ") {
        true => anyhow::anyhow!("{message}"),
        false => anyhow::anyhow!("box {id} is {state}: {message}"),
    }
}

/// The exit code of a client of main's.
pub(crate) async fn conclude(place: Place<'_>, parting: Parting) -> anyhow::Result<ExitCode> {
    let id = match place {
        Place::Here { dir, .. } => dir.id().short(),
        Place::There { name, .. } => name.get(..12).unwrap_or(name),
    };
    match parting {
        Parting::Told(Reply::Ended { exit, .. }) => Ok(tell_end(&exit)),
        Parting::Told(Reply::Refused { state, message }) => Err(refused(id, state, &message)),
        Parting::Told(_) | Parting::HungUp => Ok(tell_end(&ended(place).await?)),
        Parting::Detached => {
            tell!("detached; box {id} goes on");
            Ok(ExitCode::SUCCESS)
        }
        Parting::Signalled(signal) => {
            tell!("left by {signal}; see 'boxwood ps' for the box");
            Ok(ExitCode::from(128 + signal.number()))
        }
        Parting::BrokenPipe => Ok(ExitCode::from(BROKEN_PIPE)),
    }
}

/// How a box ended whose client did not hear it. One that was to be removed at its end took its result
/// along.
async fn ended(place: Place<'_>) -> anyhow::Result<ExitRecord> {
    match place {
        Place::Here { runtime, dir } => {
            let ended = async { runtime.wait(runtime.find(dir.id().as_str())?).await };
            match ended.await {
                Err(Error::State(StateError::NoSuchBox(_))) => Ok(lost()),
                ended => Ok(ended?),
            }
        }
        Place::There { daemon, name } => match daemon.wait(name).await {
            Ok(ended) => Ok(ended.exit.map_or_else(lost, shown::exit)),
            Err(error) if remote::is_not_found(&error) => Ok(lost()),
            Err(error) => Err(error.into()),
        },
    }
}

/// Waits until main runs, says so by printing `name`, and goes.
pub(crate) async fn until_started(started: Started, name: &str) -> anyhow::Result<ExitCode> {
    let Started { mut reader, dir, .. } = started;
    loop {
        match reader.next().await? {
            Some(FromShim::Reply(Reply::Started { .. })) => {
                say!("{name}")?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(FromShim::Reply(Reply::Ended { exit, .. })) => {
                if exit.reason == ExitReason::Exited && exit.message.is_none() {
                    tell!("box {name} was stopped before it was said to run");
                }
                return Ok(tell_end(&exit));
            }
            Some(_) => {}
            None => anyhow::bail!("the shim of box {} ended without a word", dir.id().short()),
        }
    }
}

/// The end of a box of which nothing is left.
fn lost() -> ExitRecord {
    let status = ExitStatus::Unknown;
    ExitRecord { status, reason: ExitReason::Lost, code: status.shell_code(), message: None }
}

/// Says what there is to say about an end and turns it into an exit code.
pub(crate) fn tell_end(exit: &ExitRecord) -> ExitCode {
    match (&exit.reason, &exit.message) {
        (ExitReason::Exited, None) => {}
        (ExitReason::Exited, Some(message)) => tell!("{message}"),
        (reason, None) => tell!("{reason}"),
        (reason, Some(message)) => tell!("{reason}: {message}"),
    }
    ExitCode::from(exit.code)
}

/// Starts a box of a daemon's with this client, follows it to its end, and returns main's exit code.
pub(crate) async fn start_there(
    daemon: &boxwood_client::Client,
    name: &str,
    manner: &Manner,
) -> anyhow::Result<ExitCode> {
    let (mut reader, mut writer) = daemon.start_attached(name).await?;
    let place = Place::There { daemon, name };
    let client = Client { place, whose: Whose::StartedMain };
    let ended = async {
        let parting = client.follow(&mut reader, &mut writer, manner).await?;
        conclude(place, parting).await
    };
    remote::known(ended.await)
}
