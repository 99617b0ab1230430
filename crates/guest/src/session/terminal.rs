//! A terminal of the box: the pair of which a session's process has one end and we the other. Made
//! for main and for sessions; `stdio` moves its bytes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use boxwood_types::WindowSize;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::fault::{Fault, Step};

/// What a terminal can hold on its way to us: two buffers of 8 KiB and one of 4 KiB (Linux,
/// `drivers/tty/pty.c` and `n_tty.c`), with room to spare.
pub(crate) const HOLDS: usize = 64 * 1024;

/// Both ends.
pub(crate) struct Terminal {
    ours: OwnedFd,
    /// Kept while the process runs: as long as somebody has this end the terminal is not hung up,
    /// whatever the process does with its own.
    theirs: OwnedFd,
}

impl Terminal {
    /// A new one of this size, in the box's file system of terminals.
    pub(crate) fn open(terminals: BorrowedFd<'_>, size: WindowSize) -> Result<Self, Fault> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let ours = rustix::fs::openat(terminals, c"ptmx", flags, Mode::empty());
        let ours = ours.step("open a terminal")?;
        unlockpt(&ours).step("unlock a terminal")?;
        let theirs = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let theirs = ioctl_tiocgptpeer(&ours, theirs).step("open a terminal's other end")?;
        let terminal = Terminal { ours, theirs };
        terminal.resize(size)?;
        Ok(terminal)
    }

    /// Gives it another size; its processes hear of that.
    pub(crate) fn resize(&self, size: WindowSize) -> Result<(), Fault> {
        let WindowSize { rows, columns } = size;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.ours, size).step("set the size of a terminal")
    }

    /// The process's end.
    pub(crate) fn theirs(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    /// Another descriptor of our end: reading and writing are watched apart.
    pub(crate) fn ours(&self) -> Result<OwnedFd, Fault> {
        rustix::io::fcntl_dupfd_cloexec(&self.ours, 3).step("duplicate a terminal's descriptor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g5_a_terminal_has_its_size_before_anybody_uses_it() {
        let Ok(terminals) = std::fs::File::open("/dev/pts") else { return };
        let size = WindowSize { rows: 31, columns: 101 };
        let terminal = Terminal::open(terminals.as_fd(), size).unwrap();
        let seen = rustix::termios::tcgetwinsize(terminal.theirs()).unwrap();
        assert_eq!((seen.ws_row, seen.ws_col), (31, 101));
        terminal.resize(WindowSize { rows: 0, columns: 0 }).unwrap();
        let seen = rustix::termios::tcgetwinsize(terminal.theirs()).unwrap();
        assert_eq!((seen.ws_row, seen.ws_col), (0, 0));
    }
}
