//! The last bytes of something endless: QEMU's error messages, a console. Called by `process` and
//! `template::bake`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// How much is kept, in bytes.
const KEPT: usize = 4 * 1024;

/// What is kept of a pipe. A task of its own reads it, until all writers are gone.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    open: watch::Receiver<()>,
}

impl Tail {
    /// A tail and the descriptor that is written to.
    pub(crate) fn open() -> io::Result<(Tail, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        let receiver = pipe::Receiver::from_owned_fd(read)?;
        let (closing, open) = watch::channel(());
        let tail = Tail { kept: Arc::default(), open };
        tokio::spawn(follow(receiver, Arc::clone(&tail.kept), closing));
        Ok((tail, write))
    }

    /// Waits until all writers are gone.
    pub(crate) async fn closed(&mut self) {
        // The only news is that the sender is gone.
        while self.open.changed().await.is_ok() {}
    }

    /// The last lines, joined to one: at most `lines` of them, at most 2 KiB.
    pub(crate) fn last_lines(&self, lines: usize) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(kept.make_contiguous()).into_owned();
        drop(kept);
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let mut last: Vec<String> = text
            .lines()
            .rev()
            .map(|line| line.chars().map(printable).take(400).collect::<String>())
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .take(lines.min(5))
            .collect();
        last.reverse();
        last.join(" | ")
    }
}

async fn follow(
    mut receiver: pipe::Receiver,
    kept: Arc<Mutex<VecDeque<u8>>>,
    closing: watch::Sender<()>,
) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = receiver.read(&mut buffer).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&buffer[..count]);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
    drop(closing);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn the_last_lines_of_a_long_text_are_kept() {
        let (mut tail, write) = Tail::open().unwrap();
        let writer = std::thread::spawn(move || {
            let mut file = std::fs::File::from(write);
            for line in 0..10_000 {
                writeln!(file, "line {line}\u{7}").unwrap();
            }
        });
        tail.closed().await;
        writer.join().unwrap();
        assert_eq!(tail.last_lines(2), "line 9998 | line 9999");
        assert!(tail.kept.lock().unwrap().len() <= KEPT);
    }
}
