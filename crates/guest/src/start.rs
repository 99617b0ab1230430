//! The start of main: its request, the root file system, the process. Part of `guest`.

use std::os::fd::AsFd;

use boxwood_wire::frame::Kind;
use boxwood_wire::message::{AdoptMain, Leaving, MainRequest, ProcessReply, StartMain, Streams};
use boxwood_wire::mux::StreamId;
use boxwood_wire::preface::GuestWord;

use crate::boot::warm::warm_stacks;
use crate::fault::{Fault, Step};
use crate::greeting;
use crate::guest::{Guest, MAIN_SLOT, Machine, Main};
use crate::rootfs::Root;
use crate::session::Session;
use crate::session::spawn::{self, Missing, Place};
use crate::session::stdio::{Ends, Pipes};
use crate::session::terminal::Terminal;

impl Guest {
    /// Reads the request on main's stream.
    pub(crate) fn serve_main(&mut self, id: StreamId) -> Result<(), Fault> {
        let Some(connection) = self.connection() else { return Ok(()) };
        let frame = match connection.frame(id) {
            Ok(None) => return Ok(()),
            Ok(Some(frame)) if frame.kind == Kind::Request => frame,
            Ok(Some(_)) | Err(_) => {
                connection.abort(id);
                return Ok(());
            }
        };
        match boxwood_wire::frame::parse::<MainRequest>(&frame.payload) {
            Ok(MainRequest::Start(request)) => self.start_main(id, &request),
            Ok(MainRequest::Adopt(request)) => {
                self.adopt_main(id, request);
                Ok(())
            }
            Ok(MainRequest::Rehearse) => {
                self.rehearse(id);
                Ok(())
            }
            Err(_) => {
                connection.abort(id);
                Ok(())
            }
        }
    }

    /// Awaited -- start --> Alive, or refused (contract G7, G8)
    fn start_main(&mut self, id: StreamId, request: &StartMain) -> Result<(), Fault> {
        let Main::Awaited(held) = &mut self.main else {
            self.answer(id, &ProcessReply::Conflict);
            return Ok(());
        };
        let held = std::mem::take(held);
        match self.try_main(id, request) {
            Ok(session) => {
                self.sessions[MAIN_SLOT] = Some(session);
                self.main = Main::Alive { leaving: request.leaving, kill_at: None };
                self.counters.sessions += 1;
                if let Some(connection) = self.connection() {
                    connection.reply(id, &ProcessReply::Started);
                }
                self.deliver(held)?;
                self.serve_early()
            }
            Err(reply) => {
                self.answer(id, &reply);
                self.leave(request.leaving)
            }
        }
    }

    /// Gives a main that was restored with its box to the shim that asks for it.
    fn adopt_main(&mut self, id: StreamId, request: AdoptMain) {
        let (Main::Alive { leaving, .. }, Some(Some(session))) =
            (&mut self.main, self.sessions.get_mut(MAIN_SLOT))
        else {
            return self.answer(id, &ProcessReply::Conflict);
        };
        *leaving = request.leaving;
        session.adopt(id);
        if let Some(connection) = self.connection() {
            connection.reply(id, &ProcessReply::Started);
        }
    }

    /// Mounts the root file system before the freeze of a template that is kept for one image.
    pub(crate) fn mount_ahead(&mut self, warm: &[Vec<u8>]) -> Result<(), Fault> {
        let word = match self.try_mount_ahead(warm) {
            Ok(()) => GuestWord::Idle,
            Err(fault) => greeting::failed(greeting::NO_EPOCH, &fault),
        };
        self.say(&word)
    }

    fn try_mount_ahead(&mut self, warm: &[Vec<u8>]) -> Result<(), Fault> {
        let machine = &self.machine;
        // What becomes of the disk is not known yet, so it is treated as one that is kept.
        let root = Root::assemble(&machine.disks, &machine.prepared, Leaving::Flush)?;
        root.settle()?;
        root.warm(warm, &mut self.scratch);
        self.root = Some(root);
        warm_stacks()?;
        self.reap()?;
        let cgroup = self.machine.prepared.main_cgroup.as_fd();
        self.nursery.clone_ahead(cgroup).step("clone main ahead")
    }

    fn try_main(&mut self, id: StreamId, request: &StartMain) -> Result<Session, ProcessReply> {
        let machine = &mut self.machine;
        let root = match self.root.take() {
            Some(mounted) => mounted,
            None => Root::assemble(&machine.disks, &machine.prepared, request.leaving)
                .map_err(broken)?,
        };
        let root = self.root.insert(root);
        let ready = machine.pipes.take();
        let ends = ends(machine, MAIN_SLOT, request.process.streams, ready).map_err(broken)?;
        ends.become_console(machine.prepared.dev.as_fd()).map_err(broken)?;
        let place = Place {
            root: root.top(),
            cgroup: machine.prepared.main_cgroup.as_fd(),
            stdio: ends.child_ends(),
            controlling: ends.controlling(),
            missing: Missing::Make,
        };
        let pid = spawn::spawn(&request.process, &place, &mut self.nursery)?;
        Ok(Session::main(pid, id, ends.into_stdio()))
    }

    /// The only answer on a stream.
    pub(crate) fn answer(&mut self, id: StreamId, reply: &ProcessReply) {
        if let Some(connection) = self.connection() {
            connection.reply(id, reply);
            connection.finish(id);
        }
    }
}

/// What the process in `slot` gets as its standard streams; `ready` are pipes of that slot.
pub(crate) fn ends(
    machine: &Machine,
    slot: usize,
    streams: Streams,
    ready: Option<Pipes>,
) -> Result<Ends, Fault> {
    match streams {
        Streams::Pipes(stdin) => {
            let pipes = ready.map_or_else(|| Pipes::new(&machine.poll, slot), Ok)?;
            Ok(Ends::Pipes(pipes, stdin))
        }
        Streams::Terminal(size) => {
            let terminal = Terminal::open(machine.prepared.terminals.as_fd(), size)?;
            Ends::terminal(terminal, &machine.poll, slot)
        }
    }
}

/// The answer for a step of ours that failed.
pub(crate) fn broken(fault: Fault) -> ProcessReply {
    ProcessReply::Failed { step: fault.step.to_string(), reason: fault.reason() }
}
