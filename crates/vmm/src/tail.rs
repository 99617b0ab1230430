//! The last bytes of something endless: QEMU's error messages, a guest's console, which a hostile guest
//! can write to for ever. Called by `process`, `template`, and by shims.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;

/// How much is kept, in bytes: a panic of Linux fits, with what led to it.
const KEPT: usize = 16 * 1024;
/// How long the last bytes of a process that has ended may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The line in which Linux says why it gives up (`kernel/panic.c`). Registers and stacks follow it.
const PANIC: &str = "Kernel panic";

/// What is kept of a pipe. A task of its own reads it, until all writers are gone.
#[derive(Clone, Debug)]
pub struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    open: watch::Receiver<()>,
}

impl Tail {
    /// A tail and the descriptor that is written to.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn open() -> io::Result<(Tail, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        let receiver = pipe::Receiver::from_owned_fd(read)?;
        let (closing, open) = watch::channel(());
        let tail = Tail { kept: Arc::default(), open };
        tokio::spawn(follow(receiver, Arc::clone(&tail.kept), closing));
        Ok((tail, write))
    }

    /// Waits until all that was written has been read, once the writers have ended: at most a second, in
    /// case that somebody else has the other end.
    pub async fn settle(&mut self) {
        // The only news is that the sender is gone.
        let _ = timeout(LAST_WORDS, async { while self.open.changed().await.is_ok() {} }).await;
    }

    /// All that is kept.
    pub fn text(&self) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    /// The last lines, joined to one: at most `lines` of them, at most 2 KiB. A kernel's last words are
    /// among them, however much it has said after.
    pub fn last_words(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<String> =
            text.lines().map(printable).filter(|line| !line.is_empty()).collect();
        let from = all.len().saturating_sub(lines.clamp(1, 5));
        let panic = all[..from].iter().rposition(|line| line.contains(PANIC));
        let mut said = all[from..].to_vec();
        if let Some(panic) = panic {
            said[0].clone_from(&all[panic]);
        }
        said.join(" | ")
    }
}

fn printable(line: &str) -> String {
    let line: String =
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
    line.trim().to_owned()
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
        tail.settle().await;
        writer.join().unwrap();
        assert_eq!(tail.last_words(2), "line 9998 | line 9999");
        assert!(tail.kept.lock().unwrap().len() <= KEPT);
    }

    #[tokio::test]
    async fn why_a_kernel_gave_up_is_said_whatever_it_printed_after() {
        let (mut tail, write) = Tail::open().unwrap();
        let text = "hello\n\nKernel panic - not syncing: no memory\nCPU: 0\nRIP: 1\nR13: 2\n";
        std::fs::File::from(write).write_all(text.as_bytes()).unwrap();
        tail.settle().await;
        assert_eq!(tail.last_words(3), "Kernel panic - not syncing: no memory | RIP: 1 | R13: 2");
        assert_eq!(
            tail.last_words(4),
            "Kernel panic - not syncing: no memory | CPU: 0 | RIP: 1 | R13: 2"
        );
        assert_eq!(tail.text(), text);
    }

    #[tokio::test]
    async fn who_has_said_nothing_has_no_last_words() {
        let (tail, _write) = Tail::open().unwrap();
        assert_eq!(tail.last_words(3), "");
    }
}
