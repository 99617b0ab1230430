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

use boxwood_wire::message::ControlReply;
use boxwood_wire::mux::StreamId;
use boxwood_wire::preface::{Mark, Reader};

use crate::connection::Connection;
use crate::fault::{Fault, Step};
use crate::guest::{Guest, Link, Main};
use crate::sys;

/// Whether the box is about to be captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is not.
    No,
    /// As soon as everything that was said is sent.
    Wanted,
}

impl Guest {
    /// Makes the disk whole and says so, as the last word (contract S2).
    pub(crate) fn hold(&mut self, id: StreamId, nonce: u64, mark: Mark) {
        let fault = match (&self.main, self.main_process()) {
            (Main::Alive { kill_at: None, .. }, Some(_)) => self.freeze_disk().err(),
            _ => Some("its main does not run".to_owned()),
        };
        if fault.is_none() {
            self.mark = mark;
            self.hold = Hold::Wanted;
        }
        if let Some(connection) = self.connection() {
            connection.reply(id, &ControlReply::Held { nonce, fault });
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
                self.link = Link::Held(Box::new(connection), Reader::new());
            }
        }
    }

    /// Held -- continue --> Open
    pub(crate) fn go_on(&mut self, connection: Connection, rest: &[u8]) -> Result<(), Fault> {
        self.link = Link::Open(connection);
        self.thaw_disk()?;
        // What its streams had to say has waited.
        self.wake();
        self.hear(rest)
    }

    fn freeze_disk(&mut self) -> Result<(), String> {
        let Some(root) = &self.root else { return Err("it has no disk".to_owned()) };
        let disk = root.disk().map_err(|errno| errno.to_string())?;
        sys::freeze(&disk).map_err(|errno| format!("can't flush the box's disk: {errno}"))?;
        self.frozen = Some(disk);
        Ok(())
    }

    /// Lets the box write again, if it was kept from it.
    pub(crate) fn thaw_disk(&mut self) -> Result<(), Fault> {
        match self.frozen.take() {
            Some(disk) => sys::thaw(disk).step("let the box's disk go on"),
            None => Ok(()),
        }
    }
}
