//! The client of a box that was just started: its streams, its signals, its end. Used by `run` and
//! `start -a`.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use boxwood_runtime::state::ExitRecord;
use boxwood_runtime::state::control::Reply;
use boxwood_runtime::{FromShim, Runtime, ShimReader, ShimWriter, Started};
use boxwood_types::{BoxId, ExitReason, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::out::{say, tell};
use crate::sys::BROKEN_PIPE;

/// Which of the client's streams are main's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Standard output and error.
    Output,
    /// Standard input, too.
    All,
}

/// The signals a client hands on to main.
const FORWARDED: [u8; 7] = [1, 2, 3, 10, 12, 15, 18];

/// Follows a box to its end and returns main's exit code.
pub(crate) async fn until_ended(
    runtime: &Runtime,
    started: Started,
    streams: Streams,
    timings: bool,
) -> anyhow::Result<ExitCode> {
    let mut started = started;
    let Started { dir, reader, writer, .. } = &mut started;
    let mut signals = forwarded_signals()?;
    let input = async {
        if streams == Streams::All {
            carry_stdin(writer).await;
        }
        std::future::pending::<()>().await
    };
    let forward = async {
        while let Some(signal) = signals.recv().await {
            // A box that has just ended can't be signalled: its end is on its way.
            let _ = runtime.forward(dir, signal).await;
        }
        std::future::pending::<()>().await
    };
    let exit = tokio::select! {
        exit = carry_output(reader, timings) => exit,
        () = input => unreachable!("the input waits for ever once it has ended"),
        () = forward => unreachable!("signals never end"),
    };
    match exit {
        Ok(Some(exit)) => Ok(conclude(&exit)),
        Ok(None) => {
            let listed = runtime.find(dir.id().as_str())?;
            Ok(conclude(&runtime.wait(listed).await?))
        }
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // Who reads main's output has gone, so this client goes, and the shim ends the box.
            Ok(ExitCode::from(BROKEN_PIPE))
        }
        Err(error) => Err(error).context("can't write what main wrote"),
    }
}

/// Waits until main runs, prints the box's id, and goes.
pub(crate) async fn until_started(started: Started, id: &BoxId) -> anyhow::Result<ExitCode> {
    let Started { mut reader, .. } = started;
    loop {
        match reader.next().await? {
            Some(FromShim::Reply(Reply::Started { .. })) => {
                say!("{id}")?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(FromShim::Reply(Reply::Ended { exit })) => {
                return Ok(conclude(&exit));
            }
            Some(_) => {}
            None => anyhow::bail!("the shim of box {} ended without a word", id.short()),
        }
    }
}

/// Says what there is to say about an end and turns it into an exit code.
fn conclude(exit: &ExitRecord) -> ExitCode {
    match (&exit.reason, &exit.message) {
        (ExitReason::Exited, None) => {}
        (ExitReason::Exited, Some(message)) => tell!("{message}"),
        (reason, None) => tell!("{reason}"),
        (reason, Some(message)) => tell!("{reason}: {message}"),
    }
    ExitCode::from(exit.code)
}

async fn carry_output(reader: &mut ShimReader, timings: bool) -> io::Result<Option<ExitRecord>> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match reader.next().await.map_err(io::Error::other)? {
            Some(FromShim::Stdout(bytes)) => {
                stdout.write_all(&bytes).await?;
                stdout.flush().await?;
            }
            Some(FromShim::Stderr(bytes)) => {
                stderr.write_all(&bytes).await?;
                stderr.flush().await?;
            }
            Some(FromShim::Reply(Reply::Ended { exit })) => return Ok(Some(exit)),
            Some(FromShim::Reply(Reply::Started { steps })) if timings => {
                for (step, microseconds) in steps {
                    tell!("{step}: {:.1} ms", microseconds as f64 / 1000.0);
                }
            }
            Some(FromShim::Reply(_)) => {}
            None => return Ok(None),
        }
    }
}

async fn carry_stdin(writer: &mut ShimWriter) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                if writer.stdin(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            // The end, or an input that can't be read: main sees the end of its input.
            _ => {
                let _ = writer.stdin_eof().await;
                return;
            }
        }
    }
}

fn forwarded_signals() -> anyhow::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(16);
    for number in FORWARDED {
        let mut heard = signal(SignalKind::from_raw(i32::from(number)))
            .with_context(|| format!("can't listen for signal {number}"))?;
        let forward = Signal::try_from(number)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while heard.recv().await.is_some() {
                if sender.send(forward).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}
