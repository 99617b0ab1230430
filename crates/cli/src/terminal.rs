//! The user's terminal: its size, and raw while a process in a box has it. Used by `client`.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, bail};
use boxwood_types::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode. It is as before when this is dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Makes the terminal of standard input raw: every key goes to the process.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        let terminal = rustix::io::dup(io::stdin()).context("can't use the terminal")?;
        let before = tcgetattr(&terminal).context("can't read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)
            .context("can't change the terminal's settings")?;
        Ok(Raw { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It fails only when the terminal has gone. Not after output has drained: a terminal that
        // nobody reads would keep us for ever.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// The size of the user's terminal; zeros when there is none.
pub(crate) fn size() -> WindowSize {
    let of = |fd: &dyn AsFd| tcgetwinsize(fd.as_fd()).ok().filter(|size| size.ws_row > 0);
    let found = of(&io::stdout()).or_else(|| of(&io::stdin())).or_else(|| of(&io::stderr()));
    found.map_or_else(WindowSize::default, |size| WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Refuses what Docker refuses: a terminal that is to be typed into, and nothing to type with.
pub(crate) fn check_input() -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("the input device is not a TTY: leave out -t, or run this in a terminal");
    }
    Ok(())
}
