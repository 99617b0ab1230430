//! Standing still for a capture, and going on after it: in the box that was captured, or in another that
//! was restored from it. Part of `guest`.
//!
//! ```text
//! link   Open -- hold, everything sent --> Held -- continue --> Open, as it was
//!                                          Held -- hello, rebirth --> Open, anew
//! ```
//!
//! A captured channel must hold nothing, in neither direction: what is on its way at that moment would be
//! lost to one of the two and heard twice by the other. So the host says nothing behind its request, and
//! the guest nothing behind its answer.
//!
//! The box's processes stand still meanwhile. They would else run in the restored box before it has a
//! random generator, a clock and a name of its own (contract G10).

use std::os::fd::OwnedFd;

use boxwood_wire::message::ControlReply;
use boxwood_wire::mux::StreamId;
use boxwood_wire::preface::{Mark, Reader};

use crate::connection::Connection;
use crate::fault::{Fault, Step};
use crate::freezer::Frozen;
use crate::guest::{Guest, Link, Main};
use crate::sys;

const NO_MAIN: &str = "its main does not run";

/// Whether the box is about to be captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is not.
    No,
    /// Its processes stand still. It is said when what they wrote was taken: so that is heard of this box,
    /// and not once more of each that is restored from it.
    Asked { stream: StreamId, nonce: u64 },
    /// It was said; as soon as that is sent.
    Wanted,
}

/// What stands still in a box that is captured.
pub(crate) struct Still {
    processes: Frozen,
    /// The box's disk, which is kept from being written to.
    disk: OwnedFd,
}

impl Guest {
    /// Makes the disk whole and lets everything stand still (contract S2).
    pub(crate) fn hold(&mut self, stream: StreamId, nonce: u64, mark: Mark) {
        let fault = match self.main {
            // There is nothing in it that runs, and whoever is greeted next makes it a box.
            Main::Awaited(_) => None,
            Main::Alive { kill_at: None, .. } => self.stand_still().err(),
            _ => Some(NO_MAIN.to_owned()),
        };
        match fault {
            None => {
                self.mark = mark;
                self.hold = Hold::Asked { stream, nonce };
            }
            fault => self.say_held(stream, nonce, fault),
        }
    }

    /// Says that everything stands still, as the last word, once nothing more is to be said.
    pub(crate) fn hold_when_emptied(&mut self) -> Result<(), Fault> {
        let Hold::Asked { stream, nonce } = self.hold else { return Ok(()) };
        if self.main_process().is_some() || matches!(self.main, Main::Awaited(_)) {
            self.hold = Hold::Wanted;
            self.say_held(stream, nonce, None);
            return Ok(());
        }
        self.hold = Hold::No;
        self.say_held(stream, nonce, Some(NO_MAIN.to_owned()));
        self.move_again()
    }

    fn say_held(&mut self, stream: StreamId, nonce: u64, fault: Option<String>) {
        if let Some(connection) = self.connection() {
            connection.reply_at_once(stream, &ControlReply::Held { nonce, fault });
        }
    }

    /// Open -- everything sent --> Held
    pub(crate) fn hold_if_silent(&mut self) {
        if self.hold == Hold::Wanted
            && self.connection().is_some_and(|connection| !connection.has_output())
        {
            self.hold = Hold::No;
            let greeting = Link::Greeting(Reader::new());
            if let Link::Open(connection) = std::mem::replace(&mut self.link, greeting) {
                self.link = Link::Held(connection, Reader::new());
            }
        }
    }

    /// Held -- continue --> Open
    pub(crate) fn go_on(&mut self, connection: Box<Connection>, rest: &[u8]) -> Result<(), Fault> {
        self.link = Link::Open(connection);
        self.move_again()?;
        // What its streams had to say has waited.
        self.wake();
        self.hear(rest)
    }

    fn stand_still(&mut self) -> Result<(), String> {
        let Some(root) = &self.root else { return Err("it has no disk".to_owned()) };
        let disk = root.disk().map_err(|errno| errno.to_string())?;
        let flush = |errno| format!("can't flush the box's disk: {errno}");
        // Most is written while everything runs, so that there is little to wait for.
        rustix::fs::syncfs(&disk).map_err(flush)?;
        // Before the disk: who waits to write to that can't stand still.
        let processes = Frozen::all(&self.machine.prepared.cgroups)?;
        match sys::freeze(&disk) {
            Ok(()) => self.still = Some(Still { processes, disk }),
            Err(errno) => {
                processes.go_on();
                return Err(flush(errno));
            }
        }
        Ok(())
    }

    /// Lets the box go on, if it stands still.
    pub(crate) fn move_again(&mut self) -> Result<(), Fault> {
        let Some(Still { processes, disk }) = self.still.take() else { return Ok(()) };
        sys::thaw(disk).step("let the box's disk go on")?;
        processes.go_on();
        Ok(())
    }
}
