//! A session: one process of the box, its standard streams and its end. Main is one; the others run
//! beside it, each in a cgroup of its own. Called by `guest` and its parts.
//!
//! ```text
//! life   Running -- its process is reaped --> Ended -- all it wrote is sent, its end told --> Told
//! fate   Kept -- its time is up --> TimedOut
//!        Kept -- its stream is aborted, and it is attached --> Ending (HUP, TERM, KILL)
//! ```
//!
//! A session is over when it is Told and nothing of it is still being ended.

pub(crate) mod ending;
pub(crate) mod files;
mod interpreter;
pub(crate) mod spawn;
pub(crate) mod stdio;
pub(crate) mod terminal;
pub(crate) mod user;
mod width;

use std::time::Instant;

use boxwood_types::{ExitStatus, Signal, WindowSize};
use boxwood_wire::message::{Attachment, ControlReply, ProcessReply};
use boxwood_wire::mux::StreamId;
use rustix::process::Pid;

use crate::cgroup::Cgroup;
use crate::connection::{Connection, Input};
use crate::fault::Fault;
use crate::poll::Pipe;
use ending::Ending;
use stdio::{Moved, Outward, Stdio};

/// A process of the box and its way to the shim.
pub(crate) struct Session {
    pid: Pid,
    outward: Outward,
    stdio: Stdio,
    life: Life,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    Ended(ExitStatus),
    Told,
}

/// Which part a session has in the box.
enum Part {
    /// Main: it goes on whoever hears it, and `control` and `leaving` end it.
    Main,
    /// One beside it.
    Beside(Beside),
}

/// What only a session beside main has.
pub(crate) struct Beside {
    /// Where its processes are.
    pub(crate) cgroup: Cgroup,
    /// What becomes of it without its stream.
    pub(crate) attachment: Attachment,
    /// What is to become of it.
    pub(crate) fate: Fate,
    /// The stream of this connection that it had before that was aborted.
    pub(crate) unheard_on: Option<StreamId>,
}

/// What is to become of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It runs as long as it likes, or until then.
    Kept {
        /// When it is killed.
        until: Option<Instant>,
    },
    /// Its time was up: it was killed.
    TimedOut,
    /// Nobody hears it: it is being ended.
    Ending(Ending),
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
    /// Begins the session of main, which runs.
    pub(crate) fn main(pid: Pid, stream: StreamId, stdio: Stdio) -> Self {
        let outward = Outward::Stream(stream);
        Session { pid, outward, stdio, life: Life::Running, part: Part::Main }
    }

    /// Begins the session of another process that runs.
    pub(crate) fn beside(pid: Pid, stream: StreamId, stdio: Stdio, beside: Beside) -> Self {
        let outward = Outward::Stream(stream);
        Session { pid, outward, stdio, life: Life::Running, part: Part::Beside(beside) }
    }

    /// Its process, unless that has been reaped.
    pub(crate) fn running(&self) -> Option<Pid> {
        (self.life == Life::Running).then_some(self.pid)
    }

    /// Whether it is `stream` that it speaks on.
    pub(crate) fn is_on(&self, stream: StreamId) -> bool {
        self.outward == Outward::Stream(stream)
    }

    /// Whether it is one beside main that goes on without its stream.
    pub(crate) fn is_detached(&self) -> bool {
        matches!(&self.part, Part::Beside(beside) if beside.attachment == Attachment::Detached)
    }

    /// A pipe became ready.
    pub(crate) fn note(&mut self, pipe: Pipe) {
        self.stdio.note(pipe);
    }

    /// Sends a signal to every process of a session beside main (contract G4).
    pub(crate) fn signal(&self, signal: Signal) {
        if let Part::Beside(beside) = &self.part {
            beside.cgroup.signal(signal, self.running());
        }
    }

    /// Gives its terminal another size.
    pub(crate) fn resize(&self, size: WindowSize) -> Result<(), Fault> {
        self.stdio.resize(size)
    }

    /// From now on it goes on without its stream.
    pub(crate) fn release(&mut self) {
        if let Part::Beside(beside) = &mut self.part {
            beside.attachment = Attachment::Detached;
        }
    }

    /// Running -- reaped --> Ended
    pub(crate) fn ended(&mut self, status: ExitStatus) {
        self.life = Life::Ended(status);
        self.stdio.settle();
    }

    /// Its stream was aborted: it goes on unheard, or is ended (contract G6).
    pub(crate) fn unheard(&mut self, now: Instant) {
        let before = std::mem::replace(&mut self.outward, Outward::Nowhere);
        self.stdio.stdin.close();
        let running = self.running();
        let Part::Beside(beside) = &mut self.part else { return };
        if let Outward::Stream(id) = before {
            beside.unheard_on = Some(id);
        }
        if beside.attachment == Attachment::Attached && matches!(beside.fate, Fate::Kept { .. }) {
            // Kept -- its stream is aborted --> Ending
            beside.fate = Fate::Ending(Ending::begin(now));
            beside.cgroup.signal(Signal::HUP, running);
            // As when a terminal is hung up: who was stopped has to wake to hear it.
            beside.cgroup.signal(Signal::CONT, running);
        }
    }

    /// The box is another from now on, and whoever heard this is not there. Main waits for who takes it
    /// over; the others are ended or go on as if their streams had been aborted.
    pub(crate) fn reborn(&mut self, now: Instant) {
        match self.part {
            Part::Main => self.outward = Outward::Later,
            Part::Beside(_) => self.unheard(now),
        }
        if let Part::Beside(beside) = &mut self.part {
            beside.unheard_on = None;
        }
    }

    /// Speaks on this stream from now on.
    pub(crate) fn adopt(&mut self, stream: StreamId) {
        self.outward = Outward::Stream(stream);
    }

    /// When [`keep_deadline`](Self::keep_deadline) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.part {
            Part::Beside(Beside { fate: Fate::Kept { until }, .. }) => {
                until.filter(|_| self.running().is_some())
            }
            Part::Beside(Beside { fate: Fate::Ending(ending), .. }) => ending.deadline(),
            Part::Beside(Beside { fate: Fate::TimedOut, .. }) | Part::Main => None,
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn keep_deadline(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        let running = self.running();
        let Part::Beside(beside) = &mut self.part else { return };
        match beside.fate {
            // Kept -- its time is up --> TimedOut
            Fate::Kept { .. } => {
                beside.fate = Fate::TimedOut;
                beside.cgroup.signal(Signal::KILL, running);
            }
            Fate::Ending(ending) => {
                if let Some((signal, next)) = ending.step(now) {
                    beside.fate = Fate::Ending(next);
                    beside.cgroup.signal(signal, running);
                }
            }
            Fate::TimedOut => {}
        }
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
            && self.outward != Outward::Later
        {
            // Ended -- all it wrote is sent --> Told
            self.life = Life::Told;
            self.tell(self.end(status), connection);
        }
        if self.life == Life::Told {
            return Ok(if self.is_being_ended() { Turn::Idle } else { Turn::Over });
        }
        let busy = out == Moved::More || err == Moved::More;
        Ok(if busy { Turn::Busy } else { Turn::Idle })
    }

    /// Tells its end: on its stream, or beside it if that was aborted.
    fn tell(&mut self, end: ProcessReply, connection: &mut Connection) {
        match (&self.part, std::mem::replace(&mut self.outward, Outward::Nowhere)) {
            (Part::Main, Outward::Stream(id)) => {
                connection.reply(id, &end);
                connection.finish(id);
            }
            (Part::Beside(_), Outward::Stream(id)) => connection.reply_last(id, end),
            (Part::Beside(Beside { unheard_on: Some(stream), .. }), _) => {
                connection.report(&ControlReply::SessionEnded { stream: *stream, end });
            }
            (Part::Main | Part::Beside(_), Outward::Nowhere | Outward::Later) => {}
        }
    }

    /// What is told of an end.
    fn end(&self, status: ExitStatus) -> ProcessReply {
        match &self.part {
            Part::Beside(Beside { fate: Fate::TimedOut, .. }) => ProcessReply::TimedOut,
            _ => ProcessReply::Exited { status },
        }
    }

    /// Whether there are processes left that are still to be ended.
    fn is_being_ended(&self) -> bool {
        match &self.part {
            Part::Beside(Beside { cgroup, fate: Fate::Ending(ending), .. }) => {
                *ending != Ending::Killed && !cgroup.is_empty()
            }
            _ => false,
        }
    }

    /// The cgroup of a session that is over.
    pub(crate) fn into_cgroup(self) -> Option<Cgroup> {
        match self.part {
            Part::Beside(beside) => Some(beside.cgroup),
            Part::Main => None,
        }
    }

    /// Hands over input that comes behind all that was handed over before; says how much the process takes.
    /// What is wrong is found when the rest is [fed](Self::feed).
    pub(crate) fn take_input(&mut self, bytes: &[u8]) -> usize {
        let stdin = &mut self.stdio.stdin;
        if stdin.is_ready() { stdin.take(bytes).unwrap_or(0) } else { 0 }
    }

    /// Hands input over, as much as the process takes.
    fn feed(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        let Outward::Stream(id) = self.outward else { return Ok(()) };
        while self.stdio.stdin.is_ready() {
            match connection.input(id) {
                Ok(Input::Bytes(bytes)) => {
                    let count = self.stdio.stdin.take(bytes)?;
                    connection.took(id, count);
                }
                Ok(Input::End) => self.stdio.end_input(),
                Ok(Input::Nothing) => {
                    if connection.is_finished(id) {
                        self.stdio.end_input();
                    }
                    return Ok(());
                }
                // A frame that has no place here, or none at all.
                Ok(Input::Misplaced) | Err(_) => {
                    connection.abort(id);
                    self.unheard(Instant::now());
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
