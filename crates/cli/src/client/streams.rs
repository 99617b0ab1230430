//! A process's standard streams and this process's own.

use std::io;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use boxwood_runtime::FromShim;
use boxwood_runtime::state::control::Reply;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::{Hear, Input, Parting, Speak, Timings};
use crate::detach::{DetachKeys, Typed, Watch};
use crate::out::tell;

/// What one read takes of standard input, in bytes: each goes by way of a thread that may block.
const READ: usize = 256 * 1024;

/// How much may be typed ahead of a process that does not read, in bytes, while its user can still leave:
/// more than anybody types, and most of what is pasted.
const TYPED_AHEAD: usize = 1 << 20;

/// How long a process may take to read what was typed before the keys that leave it.
const LAST_INPUT: Duration = Duration::from_secs(1);

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
    let stdin = tokio::io::stdin();
    match input {
        Input::None => Typing::Over,
        Input::Terminal(keys) => carry_keys(writer, stdin, keys).await,
        Input::Piped | Input::Shared => match carry_bytes(writer, stdin).await {
            Ok(()) => {
                if *input == Input::Piped {
                    let _ = writer.stdin_eof().await;
                }
                Typing::Over
            }
            Err(error) => Typing::Failed(error),
        },
    }
}

/// Hands on what comes, until there is no more of it or nobody takes it.
async fn carry_bytes(writer: &mut impl Speak, from: impl AsyncRead) -> io::Result<()> {
    let mut from = pin!(from);
    let mut buffer = vec![0; READ];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 || writer.stdin(&buffer[..count]).await.is_err() {
            return Ok(());
        }
    }
}

/// Hands on what is typed, and looks for the keys in it: also while the process reads nothing.
async fn carry_keys(
    writer: &mut impl Speak,
    stdin: impl AsyncRead + Unpin,
    keys: &DetachKeys,
) -> Typing {
    let (typed, waiting) = tokio::io::duplex(TYPED_AHEAD);
    let mut handed_on = pin!(carry_bytes(writer, waiting));
    let typing = tokio::select! {
        typing = watch(stdin, typed, keys) => typing,
        _ = &mut handed_on => return Typing::Over,
    };
    match typing {
        Typing::Detached => drop(tokio::time::timeout(LAST_INPUT, handed_on).await),
        Typing::Over | Typing::Failed(_) => drop(handed_on.await),
    }
    typing
}

/// Puts what is typed where it waits, until the keys or the end come.
async fn watch(
    mut stdin: impl AsyncRead + Unpin,
    mut waiting: DuplexStream,
    keys: &DetachKeys,
) -> Typing {
    let mut watch = Watch::new(keys.clone());
    let mut buffer = vec![0; READ];
    loop {
        // The end of it, or a terminal that has gone.
        let count = stdin.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return Typing::Over;
        }
        match watch.take(&buffer[..count]) {
            Typed::Input(bytes) => drop(waiting.write_all(&bytes).await),
            Typed::Detach(bytes) => {
                let _ = tokio::time::timeout(LAST_INPUT, waiting.write_all(&bytes)).await;
                return Typing::Detached;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that reads only so many bytes, and keeps them.
    struct Reads {
        most: usize,
        bytes: Vec<u8>,
    }

    impl Speak for Reads {
        async fn stdin(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
            self.bytes.extend(bytes.iter().take(self.most - self.bytes.len()));
            match self.bytes.len() < self.most {
                true => Ok(()),
                false => std::future::pending().await,
            }
        }

        async fn stdin_eof(&mut self) -> anyhow::Result<()> {
            unreachable!("a terminal has no end of input")
        }
    }

    async fn typed(process: &mut Reads, bytes: &[u8]) -> Typing {
        carry_keys(process, bytes, &crate::detach::DEFAULT.parse().unwrap()).await
    }

    #[tokio::test]
    async fn h7_the_keys_that_leave_are_seen_though_nothing_is_read() {
        let mut stuck = Reads { most: 4, bytes: Vec::new() };
        let much = [&[b'x'; TYPED_AHEAD][..], b"\x10\x11"].concat();
        assert!(matches!(typed(&mut stuck, &much).await, Typing::Detached));
        assert_eq!(stuck.bytes, b"xxxx");
    }

    #[tokio::test]
    async fn h7_what_was_typed_before_the_keys_is_handed_on_and_what_comes_after_them_is_not() {
        let mut reads = Reads { most: usize::MAX, bytes: Vec::new() };
        assert!(matches!(typed(&mut reads, b"echo hi\n\x10\x11no").await, Typing::Detached));
        assert!(matches!(typed(&mut reads, b"on\n").await, Typing::Over));
        assert_eq!(reads.bytes, b"echo hi\non\n");
    }
}
