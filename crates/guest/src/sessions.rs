//! Sessions beside main: their start and their streams' ends. Part of `guest`.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use boxwood_wire::frame::{self, EXEC_PORT, Kind, PTY_PORT};
use boxwood_wire::message::{Attachment, Decline, ProcessReply, StartSession, Streams};
use boxwood_wire::mux::StreamId;

use crate::connection::Connection;
use crate::fault::Fault;
use crate::guest::{Guest, Main};
use crate::kits::Kit;
use crate::session::spawn::{self, Missing, Place};
use crate::session::{Beside, Fate, Session};
use crate::start::{broken, ends};

/// Sessions beside main at the same time: four descriptors each, of the 1,024 that PID 1 may have.
pub(crate) const LIMIT: usize = 128;

/// Of these, how many more detached ones may make up. Nobody ends them by going away, so they leave places
/// for those whose client waits.
const DETACHED_LIMIT: usize = 96;

/// The longest timeout that makes a difference: a year.
const MAX_TIMEOUT_MS: u64 = 365 * 24 * 3600 * 1000;

impl Guest {
    /// A stream of a session's service has something to say (contract G1).
    pub(crate) fn serve_session(&mut self, id: StreamId, port: u32) -> Result<(), Fault> {
        match self.main {
            // It stays in its stream, which is bounded, until main runs.
            Main::Awaited(_) => {
                if !self.early.contains(&id) {
                    self.early.push(id);
                }
            }
            Main::Alive { .. } if self.main_process().is_some() => self.begin_session(id, port),
            // The request is not even read.
            Main::Alive { .. } | Main::Emptying | Main::Left => self.decline(id, Decline::Leaving),
        }
        Ok(())
    }

    /// Serves what came while main was awaited.
    pub(crate) fn serve_early(&mut self) -> Result<(), Fault> {
        for id in std::mem::take(&mut self.early) {
            if let Some(port) = self.connection().and_then(|connection| connection.service(id)) {
                self.serve_session(id, port)?;
            }
        }
        Ok(())
    }

    /// Main did not come, or has gone: what waited for it waits in vain.
    pub(crate) fn turn_away_early(&mut self) {
        for id in std::mem::take(&mut self.early) {
            self.decline(id, Decline::Leaving);
        }
    }

    fn decline(&mut self, id: StreamId, why: Decline) {
        self.answer(id, &ProcessReply::Declined(why));
    }

    fn begin_session(&mut self, id: StreamId, port: u32) {
        let Some(connection) = self.connection() else { return };
        let Some(request) = request(connection, id, port) else { return };
        if request.attachment == Attachment::Detached && self.detached() >= DETACHED_LIMIT {
            return self.decline(id, Decline::TooMany { limit: DETACHED_LIMIT as u32 });
        }
        let Some((slot, kit)) = self.free_slot() else {
            return self.decline(id, Decline::TooMany { limit: LIMIT as u32 });
        };
        let with_kit = kit.map(|kit| self.try_session(id, slot, &request, kit));
        let session = match with_kit {
            // Root in the box may have taken the cgroup away that was ready.
            None | Some(Err(ProcessReply::Failed { .. })) => Kit::new(&mut self.machine, slot)
                .map_err(broken)
                .and_then(|kit| self.try_session(id, slot, &request, kit)),
            Some(result) => result,
        };
        match session {
            Ok(session) => {
                self.seat(slot, session);
                self.counters.sessions += 1;
                if let Some(connection) = self.connection() {
                    connection.reply(id, &ProcessReply::Started);
                }
            }
            Err(reply) => self.answer(id, &reply),
        }
    }

    fn try_session(
        &mut self,
        id: StreamId,
        slot: usize,
        request: &StartSession,
        kit: Kit,
    ) -> Result<Session, ProcessReply> {
        let machine = &mut self.machine;
        let Kit { pipes, cgroup, .. } = kit;
        let ends = ends(machine, slot, request.process.streams, Some(pipes)).map_err(broken);
        let (root, ends) = match (&self.root, ends) {
            (Some(root), Ok(ends)) => (root, ends),
            (_, Err(reply)) => {
                machine.prepared.cgroups.give_back(cgroup);
                return Err(reply);
            }
            (None, Ok(_)) => return Err(ProcessReply::Declined(Decline::Leaving)),
        };
        let place = Place {
            root: root.top(),
            cgroup: cgroup.as_fd(),
            stdio: ends.child_ends(),
            controlling: ends.controlling(),
            missing: Missing::Refuse,
        };
        match spawn::spawn(&request.process, &place, &mut self.nursery) {
            Ok(pid) => {
                let timeout = |ms: u64| Duration::from_millis(ms.min(MAX_TIMEOUT_MS));
                let until = request.timeout_ms.map(|ms| Instant::now() + timeout(ms));
                let fate = Fate::Kept { until };
                let attachment = request.attachment;
                let beside = Beside { cgroup, attachment, fate, unheard_on: None };
                Ok(Session::beside(pid, id, ends.into_stdio(), beside))
            }
            Err(reply) => {
                machine.prepared.cgroups.give_back(cgroup);
                Err(reply)
            }
        }
    }

    /// How many sessions go on whoever hears them.
    fn detached(&self) -> usize {
        self.sessions.iter().flatten().filter(|session| session.is_detached()).count()
    }

    /// The session on a stream.
    pub(crate) fn session_on(&mut self, stream: StreamId) -> Option<&mut Session> {
        self.sessions.iter_mut().flatten().find(|session| session.is_on(stream))
    }

    /// A stream was aborted.
    pub(crate) fn unheard(&mut self, stream: StreamId) {
        self.early.retain(|early| *early != stream);
        if let Some(session) = self.session_on(stream) {
            session.unheard(Instant::now());
        }
    }
}

/// The request on a session's stream, once it is whole. A stream that carries something else is
/// aborted.
fn request(connection: &mut Connection, id: StreamId, port: u32) -> Option<StartSession> {
    let request = match connection.frame(id) {
        Ok(None) => return None,
        Ok(Some(frame)) if frame.kind == Kind::Request => {
            frame::parse::<StartSession>(&frame.payload).ok()
        }
        Ok(Some(_)) | Err(_) => None,
    };
    let fits = |request: &StartSession| match request.process.streams {
        Streams::Pipes(_) => port == EXEC_PORT,
        Streams::Terminal(_) => port == PTY_PORT,
    };
    let request = request.filter(fits);
    if request.is_none() {
        connection.abort(id);
    }
    request
}
