//! A session: one process of the box, its standard streams and its end. Main is one; exec and
//! terminal sessions will be others. Called by `guest`.
//!
//! ```text
//! Running -- its process is reaped --> Ended -- all it wrote is sent --> Exited told, gone
//! ```

pub(crate) mod spawn;
pub(crate) mod stdio;
pub(crate) mod user;

use boxwood_types::ExitStatus;
use boxwood_wire::frame::Kind;
use boxwood_wire::message::ProcessReply;
use boxwood_wire::mux::StreamId;
use rustix::process::Pid;

use crate::connection::Connection;
use crate::fault::Fault;
use crate::poll::Pipe;
use stdio::{Moved, Outward, Stdio};

/// A process of the box and its way to the shim.
pub(crate) struct Session {
    pid: Pid,
    outward: Outward,
    stdio: Stdio,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    Ended(ExitStatus),
}

/// What a turn of a session came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to do at once.
    Busy,
    /// Nothing until an event.
    Idle,
    /// It is over: its exit was told.
    Over,
}

impl Session {
    /// Begins the session of a process that runs.
    pub(crate) fn new(pid: Pid, stream: StreamId, stdio: Stdio) -> Self {
        Session { pid, outward: Outward::Stream(stream), stdio, life: Life::Running }
    }

    /// Its process, unless that has been reaped.
    pub(crate) fn running(&self) -> Option<Pid> {
        (self.life == Life::Running).then_some(self.pid)
    }

    /// Whether it is `stream` that it speaks on.
    pub(crate) fn is_on(&self, stream: StreamId) -> bool {
        self.outward == Outward::Stream(stream)
    }

    /// A pipe became ready.
    pub(crate) fn note(&mut self, pipe: Pipe) {
        self.stdio.note(pipe);
    }

    /// Running -- reaped --> Ended
    pub(crate) fn ended(&mut self, status: ExitStatus) {
        self.life = Life::Ended(status);
        self.stdio.settle();
    }

    /// Its stream was aborted: it goes on unheard.
    pub(crate) fn unheard(&mut self) {
        self.outward = Outward::Nowhere;
        self.stdio.stdin.close();
    }

    /// Moves what can be moved, one frame each way, and tells the exit when it is time.
    pub(crate) fn turn(
        &mut self,
        connection: &mut Connection,
        scratch: &mut [u8],
    ) -> Result<Turn, Fault> {
        self.feed(connection)?;
        let out = self.stdio.stdout.pump(connection, self.outward, scratch)?;
        let err = self.stdio.stderr.pump(connection, self.outward, scratch)?;
        if let Life::Ended(status) = self.life
            && self.stdio.is_drained()
        {
            // Ended -- all it wrote is sent --> gone
            if let Outward::Stream(id) = self.outward {
                connection.reply(id, &ProcessReply::Exited { status });
                connection.finish(id);
            }
            return Ok(Turn::Over);
        }
        let busy = out == Moved::More || err == Moved::More;
        Ok(if busy { Turn::Busy } else { Turn::Idle })
    }

    /// Hands input over, as much as the process takes.
    fn feed(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        let stdin = &mut self.stdio.stdin;
        stdin.pump()?;
        let Outward::Stream(id) = self.outward else { return Ok(()) };
        while stdin.wants_more() {
            match connection.frame(id) {
                Ok(Some(frame)) if frame.kind == Kind::Stdin => stdin.push(frame.payload),
                Ok(Some(frame)) if frame.kind == Kind::StdinEof => stdin.close(),
                Ok(None) if connection.is_finished(id) => {
                    stdin.close();
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                // A frame that has no place here, or none at all.
                Ok(Some(_)) | Err(_) => {
                    connection.abort(id);
                    self.unheard();
                    return Ok(());
                }
            }
            stdin.pump()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
