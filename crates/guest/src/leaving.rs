//! The end of a box: main is over, so everything else ends, and the disk is made to hold it all
//! (contract G9). Part of `guest`.

use boxwood_types::Signal;
use boxwood_wire::frame::CONTROL_PORT;
use boxwood_wire::message::{ControlReply, Leaving};

use crate::fault::{Fault, Step};
use crate::guest::{Guest, Main};
use crate::sys;

impl Guest {
    /// Alive -- main's exit told --> Emptying, or Left if nothing has to be kept
    pub(crate) fn leave(&mut self, leaving: Leaving) -> Result<(), Fault> {
        self.turn_away_early();
        match leaving {
            // The VM is ended as soon as the host hears this, with whatever still runs in it.
            Leaving::Discard => {
                self.tell_left(None);
                Ok(())
            }
            Leaving::Flush => {
                self.main = Main::Emptying;
                // Main's end has been told into the connection only, and the flush takes a while.
                self.flush()?;
                // As Docker does: when main has ended nothing of its container goes on.
                sys::kill_all(Signal::KILL.number().into()).step("kill what is left of the box")?;
                self.reap()
            }
        }
    }

    /// Emptying -- all reaped, flushed --> Left
    pub(crate) fn nobody_left(&mut self) -> Result<(), Fault> {
        if !matches!(self.main, Main::Emptying) {
            return Ok(());
        }
        // The sessions that were killed with the rest: their ends are told before ours.
        self.session_turns()?;
        let flushed = match &self.root {
            // Freezing is a flush that also leaves the journal empty and the disk marked clean, and
            // unlike an unmount it does not matter who still holds a file.
            Some(root) => root.disk().and_then(sys::freeze).step("flush the box's disk"),
            None => Ok(()),
        };
        self.tell_left(flushed.err());
        Ok(())
    }

    fn tell_left(&mut self, flush_fault: Option<Fault>) {
        let flush_error = flush_fault.map(|fault| format!("{fault}: {}", fault.reason()));
        let left = ControlReply::Left { flush_error, counters: self.counters };
        self.main = Main::Left;
        let Some(connection) = self.connection() else { return };
        for id in connection.streams_of(CONTROL_PORT) {
            connection.reply(id, &left);
            connection.finish(id);
        }
    }
}
