//! A session of nobody's, before there is a main: under emulation it is the code that runs for the first
//! time that takes the time, so a VM that waits for a box does all of a process's life ahead. Part of
//! `guest`; asked for by a shim that keeps such a VM.

use std::fs::File;
use std::os::fd::AsFd;

use boxwood_types::StartRefusal;
use boxwood_wire::message::{Attachment, Process, ProcessReply, Stdin, Streams};
use boxwood_wire::mux::StreamId;
use rustix::io::Errno;

use crate::fault::Fault;
use crate::guest::{Guest, Main};
use crate::kits::Kit;
use crate::session::spawn::{self, Missing, Place};
use crate::session::stdio::Ends;
use crate::session::{Beside, Fate, Session, files};
use crate::start::broken;

/// What is run: this program, which says a word and ends when it is not PID 1 (see `main`). It is beneath the
/// box's root, where nothing of the box can reach it.
const PROGRAM: &str = "/init";

impl Guest {
    /// Runs a process of ours as a session, from its request to its end.
    pub(crate) fn rehearse(&mut self, id: StreamId) {
        if !matches!(self.main, Main::Awaited(_)) {
            return self.answer(id, &ProcessReply::Conflict);
        }
        let limit = || ProcessReply::Refused {
            refusal: StartRefusal::NotExecutable,
            reason: "there is no place for it".to_owned(),
        };
        let begun = self.free_slot().ok_or_else(limit).and_then(|(slot, kit)| {
            let kit = kit.map_or_else(|| Kit::new(&mut self.machine, slot), Ok).map_err(broken)?;
            Ok((slot, self.begin_rehearsal(id, kit)?))
        });
        match begun {
            Ok((slot, session)) => {
                self.seat(slot, session);
                if let Some(connection) = self.connection() {
                    connection.reply(id, &ProcessReply::Started);
                }
            }
            Err(reply) => self.answer(id, &reply),
        }
    }

    fn begin_rehearsal(&mut self, id: StreamId, kit: Kit) -> Result<Session, ProcessReply> {
        self.nursery.dismiss_ahead();
        self.look_around().map_err(broken)?;
        let Kit { pipes, cgroup, .. } = kit;
        let root = File::open("/").map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            broken(Fault::new("open our own root", errno))
        })?;
        let ends = Ends::Pipes(pipes, Stdin::Stream);
        let place = Place {
            root: root.as_fd(),
            cgroup: cgroup.as_fd(),
            stdio: ends.child_ends(),
            controlling: None,
            missing: Missing::Refuse,
        };
        let process = Process {
            argv: vec![PROGRAM.into()],
            env: Vec::new(),
            cwd: b"/".to_vec(),
            user: Vec::new(),
            streams: Streams::Pipes(Stdin::Stream),
        };
        let pid = spawn::spawn(&process, &place, &mut self.nursery)?;
        let fate = Fate::Kept { until: None };
        let beside = Beside { cgroup, attachment: Attachment::Attached, fate, unheard_on: None };
        Ok(Session::beside(pid, id, ends.into_stdio(), beside))
    }

    /// Reads of the box's root what every start reads, if that is mounted.
    fn look_around(&self) -> Result<(), Fault> {
        let Some(root) = &self.root else { return Ok(()) };
        for path in [c"etc/passwd", c"etc/group"] {
            files::read(root.top(), path).map(drop)?;
        }
        Ok(())
    }
}
