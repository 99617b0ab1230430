//! The VM's console: a pipe whose last bytes are kept in memory, for the day the VM dies.
//!
//! A hostile guest can write to its console for ever; so it never reaches the disk, except for these
//! last bytes when a box fails.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// How much of the console's end is kept, in bytes.
const KEPT: usize = 16 * 1024;

/// The kept end of a console.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    tail: Rc<RefCell<VecDeque<u8>>>,
}

impl Console {
    /// A console and the file QEMU writes it to. Reads on a task of its own until QEMU has gone.
    pub(crate) fn open() -> io::Result<(Console, File)> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        let console = Console::default();
        tokio::task::spawn_local(console.clone().follow(read));
        Ok((console, File::from(write)))
    }

    /// The last bytes, as text.
    pub(crate) fn tail(&self) -> String {
        let (first, second) =
            (self.tail.borrow().as_slices().0.to_vec(), self.tail.borrow().as_slices().1.to_vec());
        String::from_utf8_lossy(&[first, second].concat()).into_owned()
    }

    async fn follow(self, read: OwnedFd) {
        let Ok(mut receiver) = pipe::Receiver::from_owned_fd(read) else { return };
        let mut buffer = vec![0; 1024];
        while let Ok(count) = receiver.read(&mut buffer).await {
            if count == 0 {
                return;
            }
            let mut tail = self.tail.borrow_mut();
            tail.extend(&buffer[..count]);
            let over = tail.len().saturating_sub(KEPT);
            tail.drain(..over);
        }
    }
}
