//! The start of main: its request, the root file system, the process. Part of `guest`.

use std::os::fd::AsFd;

use boxwood_wire::frame::Kind;
use boxwood_wire::message::{Leaving, ProcessReply, StartMain};
use boxwood_wire::mux::StreamId;
use boxwood_wire::preface::GuestWord;

use crate::fault::Fault;
use crate::greeting;
use crate::guest::{Guest, MAIN_SLOT, Main};
use crate::rootfs::Root;
use crate::session::Session;
use crate::session::spawn::{self, Place};
use crate::session::stdio::Pipes;

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
        match boxwood_wire::frame::parse::<StartMain>(&frame.payload) {
            Ok(request) => self.start_main(id, &request),
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
                self.deliver(held)
            }
            Err(reply) => {
                self.answer(id, &reply);
                self.leave(request.leaving)
            }
        }
    }

    /// Mounts the root file system before the freeze of a template that is kept for one image.
    pub(crate) fn mount_ahead(&mut self, warm: &[Vec<u8>]) -> Result<(), Fault> {
        let machine = &self.machine;
        // What becomes of the disk is not known yet, so it is treated as one that is kept.
        let mounted = Root::assemble(&machine.disks, &machine.prepared, Leaving::Flush)
            .and_then(|root| root.settle().map(|()| root));
        match mounted {
            Ok(root) => {
                root.warm(warm, &mut self.scratch);
                self.root = Some(root);
                self.say(&GuestWord::Idle)
            }
            Err(fault) => self.say(&greeting::failed(greeting::NO_EPOCH, &fault)),
        }
    }

    fn try_main(&mut self, id: StreamId, request: &StartMain) -> Result<Session, ProcessReply> {
        let broken = |fault: Fault| ProcessReply::Failed {
            step: fault.step.to_string(),
            reason: fault.reason(),
        };
        let machine = &mut self.machine;
        let root = match self.root.take() {
            Some(mounted) => mounted,
            None => Root::assemble(&machine.disks, &machine.prepared, request.leaving)
                .map_err(broken)?,
        };
        let root = self.root.insert(root);
        let pipes = match machine.pipes.take() {
            Some(pipes) => pipes,
            None => Pipes::new(&machine.poll, MAIN_SLOT).map_err(broken)?,
        };
        let stdin = request.process.stdin;
        let place = Place {
            root: root.top(),
            cgroup: machine.prepared.main_cgroup.as_fd(),
            stdio: pipes.child_ends(stdin),
        };
        let pid = spawn::spawn(&request.process, &place, &mut self.stack)?;
        Ok(Session::new(pid, id, pipes.into_stdio(stdin)))
    }

    /// The only answer on a stream.
    fn answer(&mut self, id: StreamId, reply: &ProcessReply) {
        if let Some(connection) = self.connection() {
            connection.reply(id, reply);
            connection.finish(id);
        }
    }
}
