//! A process's standard streams and this process's own.

use std::io;

use anyhow::Context;
use boxwood_runtime::FromShim;
use boxwood_runtime::state::control::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::{Hear, Input, Parting, Speak, Timings};
use crate::detach::{Typed, Watch};
use crate::out::tell;

/// What one read takes of standard input, in bytes: each goes by way of a thread that may block.
const READ: usize = 256 * 1024;

/// What stands for main where a session has its number.
const MAIN: u32 = 0;

/// Writes what the process writes, until the last reply.
pub(super) async fn carry_output(
    reader: &mut impl Hear,
    timings: Timings,
    session: &watch::Sender<Option<u32>>,
) -> anyhow::Result<Parting> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let written = match reader.next().await? {
            Some(FromShim::Stdout(bytes)) => write(&mut stdout, &bytes).await,
            Some(FromShim::Stderr(bytes)) => write(&mut stderr, &bytes).await,
            Some(FromShim::Reply(Reply::SessionStarted { session: number })) => {
                session.send_replace(Some(number));
                Ok(())
            }
            Some(FromShim::Reply(Reply::Started { steps })) => {
                session.send_replace(Some(MAIN));
                if timings == Timings::Told {
                    tell_steps(&steps);
                }
                Ok(())
            }
            Some(FromShim::Reply(Reply::Attached)) => {
                session.send_replace(Some(MAIN));
                Ok(())
            }
            Some(FromShim::Reply(Reply::Done)) => Ok(()),
            Some(FromShim::Reply(last)) => return Ok(Parting::Told(last)),
            None => return Ok(Parting::HungUp),
        };
        match written {
            Ok(()) => {}
            // Who reads this client's output has gone, so it goes, too, and what lives with it ends.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Parting::BrokenPipe);
            }
            Err(error) => return Err(error).context("can't write what the command wrote"),
        }
    }
}

async fn write(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn tell_steps(steps: &[(String, u64)]) {
    for (step, microseconds) in steps {
        tell!("{step}: {:.1} ms", *microseconds as f64 / 1000.0);
    }
}

/// How typing ended.
pub(super) enum Typing {
    /// There is no more of it.
    Over,
    /// With the detach keys.
    Detached,
    /// There may be more, and it can't be read.
    Failed(io::Error),
}

pub(super) async fn carry_input(writer: &mut impl Speak, input: &Input) -> Typing {
    let mut watch = match input {
        Input::None => return Typing::Over,
        Input::Piped | Input::Shared => None,
        Input::Terminal(keys) => Some(Watch::new(keys.clone())),
    };
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; READ];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                let typed = match &mut watch {
                    Some(watch) => watch.take(&buffer[..count]),
                    None => Typed::Input(buffer[..count].to_vec()),
                };
                let (Typed::Input(bytes) | Typed::Detach(bytes)) = &typed;
                if writer.stdin(bytes).await.is_err() {
                    return Typing::Over;
                }
                if matches!(typed, Typed::Detach(_)) {
                    return Typing::Detached;
                }
            }
            Err(error) if watch.is_none() => return Typing::Failed(error),
            // The end; or a terminal that has gone.
            _ => {
                if *input == Input::Piped {
                    let _ = writer.stdin_eof().await;
                }
                return Typing::Over;
            }
        }
    }
}
