//! The guest after its boot: one owner of the channel, the sessions and main's life. Called by
//! `main`, turn by turn; `control` and `leaving` are parts of it.
//!
//! ```text
//! link   Greeting -- hello, rebirth --> Open -- hang-up --> Greeting
//! main   Awaited -- start --> Alive -- its exit told --> Emptying -- all reaped, flushed --> Left
//!        Awaited -- refused, failed --> Emptying or Left
//! ```

use std::time::Instant;

use boxwood_types::ExitStatus;
use boxwood_wire::frame::{CONTROL_PORT, Kind, MAIN_PORT};
use boxwood_wire::message::{Counters, Leaving, ProcessReply, StartMain};
use boxwood_wire::mux::{Event, MuxError, StreamId};
use boxwood_wire::preface::{self, Epoch, GuestWord, Hello, PrefaceError};
use rustix::process::Pid;

use crate::boot::disks::Disks;
use crate::boot::mounts::Prepared;
use crate::connection::{Connection, Port, Received};
use crate::control::Held;
use crate::fault::Fault;
use crate::poll::{Poll, Source};
use crate::reaper::{Reaped, Reaper};
use crate::rebirth::{self, IdentityFiles};
use crate::rootfs::Root;
use crate::session::spawn::{self, Place};
use crate::session::stdio::Pipes;
use crate::session::{Session, Turn};
use crate::sys::ChildStack;

/// The slot of main's pipes, which are made before the freeze.
pub(crate) const MAIN_SLOT: usize = 0;

/// What a read from the port can return at most: the driver's buffers are one page each.
const PORT_READ: usize = 4096;

/// The largest piece of output that is moved at once.
const SCRATCH: usize = boxwood_wire::frame::MAX_BYTES;

/// What the boot has made.
pub(crate) struct Machine {
    pub(crate) disks: Disks,
    pub(crate) poll: Poll,
    pub(crate) reaper: Reaper,
    pub(crate) prepared: Prepared,
    pub(crate) identity: IdentityFiles,
    /// Main's pipes.
    pub(crate) pipes: Pipes,
}

/// What the channel is.
enum Link {
    /// Waiting for a greeting: before the first and after a hang-up.
    Greeting(preface::Reader),
    /// A connection of streams.
    Open(Connection),
}

/// What has become of main.
pub(crate) enum Main {
    /// It was not asked for yet. What is meant for it is held.
    Awaited(Held),
    /// It runs, or its last output is on its way.
    Alive {
        leaving: Leaving,
        /// When its tree is killed, after a stop.
        kill_at: Option<Instant>,
    },
    /// It is over and the last other processes are ending.
    Emptying,
    /// Everything is over and was told.
    Left,
}

/// PID 1 after its boot.
pub(crate) struct Guest {
    disks: Disks,
    pub(crate) prepared: Prepared,
    port: Port,
    poll: Poll,
    reaper: Reaper,
    identity: IdentityFiles,
    spare_pipes: Option<Pipes>,
    pub(crate) root: Option<Root>,
    link: Link,
    /// Words outside a connection that the port had no room for.
    unsent: Vec<u8>,
    sessions: Vec<Option<Session>>,
    pub(crate) main: Main,
    pub(crate) counters: Counters,
    stack: Box<ChildStack>,
    scratch: Vec<u8>,
    /// Work was left over: the next wait returns at once.
    busy: bool,
}

impl Guest {
    /// Takes the machine over.
    pub(crate) fn new(port: Port, machine: Machine) -> Self {
        Guest {
            disks: machine.disks,
            prepared: machine.prepared,
            port,
            poll: machine.poll,
            reaper: machine.reaper,
            identity: machine.identity,
            spare_pipes: Some(machine.pipes),
            root: None,
            link: Link::Greeting(preface::Reader::new()),
            unsent: Vec::new(),
            sessions: Vec::new(),
            main: Main::Awaited(Held::default()),
            counters: Counters::default(),
            stack: ChildStack::new(),
            scratch: vec![0; SCRATCH],
            busy: false,
        }
    }

    /// Says a word outside a connection.
    pub(crate) fn say(&mut self, word: &GuestWord) -> Result<(), Fault> {
        self.unsent.extend(preface::encode(word));
        self.flush()
    }

    /// Waits for something to happen, and deals with it.
    pub(crate) fn turn(&mut self) -> Result<(), Fault> {
        let ready = self.poll.wait(self.patience())?;
        let mut heard = false;
        for source in ready.iter() {
            match source {
                Source::Port => heard = true,
                Source::Children => {
                    self.reaper.acknowledge();
                    self.reap()?;
                }
                Source::Pipe(slot, pipe) => {
                    if let Some(Some(session)) = self.sessions.get_mut(slot) {
                        session.note(pipe);
                    }
                }
            }
        }
        if heard {
            self.listen()?;
        }
        self.keep_deadline()?;
        self.work()?;
        self.flush()
    }

    /// Reads what the port holds.
    fn listen(&mut self) -> Result<(), Fault> {
        let mut buffer = [0; PORT_READ];
        loop {
            match self.port.read(&mut buffer)? {
                Received::Bytes(count) => self.hear(&buffer[..count])?,
                Received::Nothing => return Ok(()),
                Received::HungUp => return self.hung_up(),
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.link {
            Link::Open(connection) => match connection.receive(bytes) {
                Ok(()) => Ok(()),
                Err(error) => self.broken(&error, bytes),
            },
            Link::Greeting(_) => self.hear_greeting(bytes),
        }
    }

    /// Looks for a greeting. Whatever is none is skipped, however much there is.
    fn hear_greeting(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while let Link::Greeting(reader) = &mut self.link {
            match reader.push::<Hello>(bytes) {
                Ok(None) => break,
                Ok(Some((_version, hello))) => {
                    let rest = std::mem::take(reader).into_rest();
                    return self.greeted(&hello, &rest);
                }
                Err(PrefaceError::NoCommonVersion { .. }) => self.say(&GuestWord::Unsupported)?,
                Err(_) => {}
            }
            // There may be a greeting behind the one that was none.
            bytes = &[];
        }
        Ok(())
    }

    /// Greeting -- hello --> Open, unless the rebirth fails
    fn greeted(&mut self, hello: &Hello, rest: &[u8]) -> Result<(), Fault> {
        let epoch = hello.epoch;
        if let Err(fault) = rebirth::reborn(hello, &mut self.identity) {
            return self.say(&failed(epoch, &fault));
        }
        self.counters = Counters::default();
        // What was connected before stays unconnected.
        self.sessions.iter_mut().flatten().for_each(Session::unheard);
        self.say(&GuestWord::Reborn { epoch })?;
        let mut connection = Connection::new();
        let heard = connection.receive(rest);
        self.link = Link::Open(connection);
        heard.or_else(|error| self.broken(&error, rest))
    }

    /// Open -- the other side breaks the protocol --> Greeting, which may be in the very bytes
    fn broken(&mut self, error: &MuxError, bytes: &[u8]) -> Result<(), Fault> {
        eprintln!("boxwood-guest: the connection to the shim is over: {error}");
        self.hung_up()?;
        self.hear_greeting(bytes)
    }

    /// Open -- hang-up --> Greeting
    fn hung_up(&mut self) -> Result<(), Fault> {
        if matches!(self.link, Link::Open(_)) {
            self.link = Link::Greeting(preface::Reader::new());
        }
        match self.main {
            Main::Left => crate::end(),
            _ => Ok(()),
        }
    }

    /// Collects ended children.
    pub(crate) fn reap(&mut self) -> Result<(), Fault> {
        loop {
            match self.reaper.next()? {
                Reaped::Child(pid, status) => self.reaped(pid, status),
                Reaped::OthersRun => return Ok(()),
                Reaped::NoneLeft => return self.nobody_left(),
            }
        }
    }

    fn reaped(&mut self, pid: Pid, status: ExitStatus) {
        let mut sessions = self.sessions.iter_mut().flatten();
        match sessions.find(|session| session.running() == Some(pid)) {
            Some(session) => session.ended(status),
            None => self.counters.orphans_reaped += 1,
        }
    }

    /// Everything that needs no waiting: what streams say, what sessions have to move.
    fn work(&mut self) -> Result<(), Fault> {
        self.busy = false;
        while let Some(event) = self.connection().and_then(Connection::next_event) {
            match event {
                Event::Opened(_) | Event::Writable(_) => {}
                Event::Readable(id) => self.serve(id)?,
                Event::Reset(id) => {
                    let mut sessions = self.sessions.iter_mut().flatten();
                    if let Some(session) = sessions.find(|session| session.is_on(id)) {
                        session.unheard();
                    }
                }
            }
        }
        for slot in 0..self.sessions.len() {
            self.session_turn(slot)?;
        }
        Ok(())
    }

    fn session_turn(&mut self, slot: usize) -> Result<(), Fault> {
        // Without a shim a session waits: its output stays in its pipes.
        let (Some(session), Link::Open(connection)) = (&mut self.sessions[slot], &mut self.link)
        else {
            return Ok(());
        };
        match session.turn(connection, &mut self.scratch)? {
            Turn::Idle => {}
            Turn::Busy => self.busy = true,
            Turn::Over => {
                self.sessions[slot] = None;
                if let (MAIN_SLOT, Main::Alive { leaving, .. }) = (slot, &self.main) {
                    self.leave(*leaving)?;
                }
            }
        }
        Ok(())
    }

    /// A stream has something to say.
    fn serve(&mut self, id: StreamId) -> Result<(), Fault> {
        if self.sessions.iter().flatten().any(|session| session.is_on(id)) {
            // A session takes its input itself.
            return Ok(());
        }
        let Some(connection) = self.connection() else { return Ok(()) };
        match connection.service(id) {
            None => Ok(()),
            Some(MAIN_PORT) => self.serve_main(id),
            Some(CONTROL_PORT) => self.serve_control(id),
            // Sessions beside main are not served yet.
            Some(_) => {
                connection.abort(id);
                Ok(())
            }
        }
    }

    fn serve_main(&mut self, id: StreamId) -> Result<(), Fault> {
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
                self.sessions.push(Some(session));
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

    fn try_main(&mut self, id: StreamId, request: &StartMain) -> Result<Session, ProcessReply> {
        let broken = |fault: Fault| ProcessReply::Failed {
            step: fault.step.to_string(),
            reason: fault.reason(),
        };
        let prepared = &self.prepared;
        let root = Root::assemble(&self.disks, prepared).map_err(broken)?;
        let root = self.root.insert(root);
        let pipes = match self.spare_pipes.take() {
            Some(pipes) => pipes,
            None => Pipes::new(&self.poll, MAIN_SLOT).map_err(broken)?,
        };
        let stdin = request.process.stdin;
        let place = Place {
            root: root.top(),
            cgroup: rustix::fd::AsFd::as_fd(&prepared.main_cgroup),
            stdio: pipes.child_ends(stdin),
        };
        let pid = spawn::spawn(&request.process, &place, &mut self.stack)?;
        Ok(Session::new(pid, id, pipes.into_stdio(stdin)))
    }

    /// Main's process, while it runs.
    pub(crate) fn main_process(&self) -> Option<Pid> {
        self.sessions.get(MAIN_SLOT)?.as_ref()?.running()
    }

    /// The only answer on a stream.
    fn answer(&mut self, id: StreamId, reply: &ProcessReply) {
        if let Some(connection) = self.connection() {
            connection.reply(id, reply);
            connection.finish(id);
        }
    }

    /// The connection, if there is one.
    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.link {
            Link::Open(connection) => Some(connection),
            Link::Greeting(_) => None,
        }
    }

    /// How long the next wait may last.
    fn patience(&self) -> Option<std::time::Duration> {
        match (&self.main, self.busy) {
            (_, true) => Some(std::time::Duration::ZERO),
            (Main::Alive { kill_at: Some(at), .. }, _) => {
                Some(at.saturating_duration_since(Instant::now()))
            }
            _ => None,
        }
    }

    /// Writes to the port what it takes.
    fn flush(&mut self) -> Result<(), Fault> {
        while !self.unsent.is_empty() {
            match self.port.write(&self.unsent)? {
                0 => return Ok(()),
                sent => drop(self.unsent.drain(..sent)),
            }
        }
        if let Link::Open(connection) = &mut self.link {
            connection.flush(&self.port)?;
        }
        Ok(())
    }
}

/// The word for a step that failed.
pub(crate) fn failed(epoch: Epoch, fault: &Fault) -> GuestWord {
    GuestWord::Failed { epoch, step: fault.step.to_string(), reason: fault.reason() }
}
