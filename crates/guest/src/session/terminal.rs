//! A terminal of the box: the pair of which a session's process has one end and we the other. Made
//! for main and for sessions; `stdio` moves its bytes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use boxwood_types::WindowSize;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
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

    /// Makes the process's end the box's `/dev/console`, as it is for a container's main.
    pub(crate) fn become_console(&self, dev: BorrowedFd<'_>) -> Result<(), Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let empty = rustix::fs::openat(dev, c"console", flags, Mode::from_raw_mode(0o600));
        drop(empty.step("create /dev/console")?);
        let clone = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&self.theirs, c"", clone).step("take a terminal's node")?;
        let here = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(tree, c"", dev, c"console", here).step("bind a terminal to /dev/console")
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
