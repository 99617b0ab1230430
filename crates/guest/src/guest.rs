//! The guest after its boot: one owner of the channel, the sessions and main's life. Called by
//! `main`, turn by turn; `greeting`, `start`, `sessions`, `control` and `leaving` are parts of it.
//!
//! ```text
//! link   Greeting -- hello, rebirth, clock right --> Open -- hang-up --> Greeting
//!        Open -- hold --> Held (see `hold`)
//! main   Awaited -- start --> Alive -- its exit told --> Emptying -- all reaped, flushed --> Left
//!        Awaited -- refused, failed --> Emptying or Left
//! ```

use std::time::{Duration, Instant};

use boxwood_types::{ExitStatus, Signal};
use boxwood_wire::frame::{CONTROL_PORT, EXEC_PORT, MAIN_PORT, PTY_PORT};
use boxwood_wire::message::{Counters, Leaving};
use boxwood_wire::mux::{Event, StreamId};
use boxwood_wire::preface::{self, Epoch, GuestWord, Mark};
use rustix::process::Pid;

use crate::boot::disks::Disks;
use crate::boot::mounts::Prepared;
use crate::connection::{Connection, Port};
use crate::control::Held;
use crate::fault::Fault;
use crate::hold::{Hold, Still};
use crate::kits::Kits;
use crate::poll::{Poll, Source};
use crate::reaper::{Reaped, Reaper};
use crate::rebirth::IdentityFiles;
use crate::rootfs::Root;
use crate::session::stdio::Pipes;
use crate::session::{Session, Turn};
use crate::sys::Nursery;

/// The slot of main's pipes, which are made before the freeze.
pub(crate) const MAIN_SLOT: usize = 0;

/// The largest piece of output that is moved at once.
const SCRATCH: usize = boxwood_wire::frame::MAX_BYTES;

/// What is taken from the port at once.
const INBOX: usize = 68 * 1024;

/// What the boot has made.
pub(crate) struct Machine {
    pub(crate) disks: Disks,
    pub(crate) poll: Poll,
    pub(crate) reaper: Reaper,
    pub(crate) prepared: Prepared,
    pub(crate) identity: IdentityFiles,
    /// Main's pipes, until it gets them.
    pub(crate) pipes: Option<Pipes>,
}

/// What the channel is.
pub(crate) enum Link {
    /// Waiting for a greeting: before the first and after a hang-up.
    Greeting(preface::Reader),
    /// A connection of streams.
    Open(Box<Connection>),
    /// A connection that stands still while the box is captured, and what comes instead.
    Held(Box<Connection>, preface::Reader),
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
    pub(crate) machine: Machine,
    pub(crate) port: Port,
    pub(crate) link: Link,
    pub(crate) main: Main,
    /// Main's and others', each in the slot its pipes are watched for.
    pub(crate) sessions: Vec<Option<Session>>,
    pub(crate) kits: Kits,
    /// Streams that want a session and wait until main runs.
    pub(crate) early: Vec<StreamId>,
    /// The box's root file system, once main was asked for.
    pub(crate) root: Option<Root>,
    pub(crate) counters: Counters,
    /// What it was given to keep in its memory.
    pub(crate) mark: Mark,
    /// The rebirth that only waits for the clock to be right.
    pub(crate) reborn_as: Option<Epoch>,
    pub(crate) hold: Hold,
    /// What stands still while the box is captured.
    pub(crate) still: Option<Still>,
    pub(crate) nursery: Nursery,
    pub(crate) scratch: Vec<u8>,
    /// Where what comes from the port is read into.
    pub(crate) inbox: Vec<u8>,
    /// Words outside a connection that the port had no room for.
    unsent: Vec<u8>,
    /// Work was left over: the next wait returns at once.
    busy: bool,
}

impl Guest {
    /// Takes the machine over.
    pub(crate) fn new(port: Port, machine: Machine, kits: Kits) -> Self {
        Guest {
            machine,
            port,
            link: Link::Greeting(preface::Reader::new()),
            main: Main::Awaited(Held::default()),
            sessions: vec![None],
            kits,
            early: Vec::new(),
            root: None,
            counters: Counters::default(),
            mark: Mark::default(),
            reborn_as: None,
            hold: Hold::No,
            still: None,
            nursery: Nursery::new(),
            scratch: vec![0; SCRATCH],
            inbox: vec![0; INBOX],
            unsent: Vec::new(),
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
        let ready = self.machine.poll.wait(self.patience())?;
        if ready.is_empty() {
            self.prepare_for_more();
        }
        let mut heard = false;
        for source in ready.iter() {
            match source {
                Source::Port => heard = true,
                Source::Children => {
                    self.machine.reaper.acknowledge();
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
        self.keep_deadlines()?;
        self.work()?;
        if ready.is_empty() && !self.busy {
            self.hold_when_emptied()?;
        }
        self.flush()
    }

    /// Collects ended children.
    pub(crate) fn reap(&mut self) -> Result<(), Fault> {
        loop {
            match self.machine.reaper.next()? {
                Reaped::Child(pid, status) => self.reaped(pid, status),
                Reaped::OthersRun => return Ok(()),
                Reaped::NoneLeft => return self.nobody_left(),
            }
        }
    }

    fn reaped(&mut self, pid: Pid, status: ExitStatus) {
        if self.nursery.forget(pid) {
            return;
        }
        if status == ExitStatus::Signal(Signal::KILL) {
            self.counters.oom_kills = crate::oom::kills();
        }
        let mut sessions = self.sessions.iter_mut().flatten();
        match sessions.find(|session| session.running() == Some(pid)) {
            Some(session) => session.ended(status),
            None => self.counters.orphans_reaped += 1,
        }
    }

    /// Everything that needs no waiting: what streams say, what sessions have to move.
    fn work(&mut self) -> Result<(), Fault> {
        self.busy = false;
        while self.hold == Hold::No
            && let Some(event) = self.connection().and_then(Connection::next_event)
        {
            match event {
                Event::Opened(_) | Event::Writable(_) => {}
                Event::Readable(id) => self.serve(id)?,
                Event::Reset(id) => self.unheard(id),
            }
        }
        self.session_turns()
    }

    /// Lets every session move what it can.
    pub(crate) fn session_turns(&mut self) -> Result<(), Fault> {
        if self.hold == Hold::Wanted {
            return Ok(());
        }
        for slot in 0..self.sessions.len() {
            self.session_turn(slot)?;
        }
        Ok(())
    }

    /// Lets everything have another turn at once.
    pub(crate) fn wake(&mut self) {
        self.busy = true;
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
                self.over(slot);
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
            Some(port @ (EXEC_PORT | PTY_PORT)) => self.serve_session(id, port),
            Some(_) => {
                connection.abort(id);
                Ok(())
            }
        }
    }

    /// Main's process, while it runs.
    pub(crate) fn main_process(&self) -> Option<Pid> {
        self.sessions.get(MAIN_SLOT)?.as_ref()?.running()
    }

    /// The connection, if there is one.
    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.link {
            Link::Open(connection) => Some(connection),
            Link::Greeting(_) | Link::Held(..) => None,
        }
    }

    /// The same, to look at.
    pub(crate) fn open(&self) -> Option<&Connection> {
        match &self.link {
            Link::Open(connection) => Some(connection),
            Link::Greeting(_) | Link::Held(..) => None,
        }
    }

    /// How long the next wait may last.
    fn patience(&self) -> Option<Duration> {
        if self.busy || matches!(self.hold, Hold::Asked { .. }) {
            return Some(Duration::ZERO);
        }
        let main = match self.main {
            Main::Alive { kill_at, .. } => kill_at,
            _ => None,
        };
        let sessions = self.sessions.iter().flatten().filter_map(Session::deadline);
        let next = sessions.chain(main).chain(self.next_beat()).min();
        let deadline = next.map(|at| at.saturating_duration_since(Instant::now()));
        deadline.into_iter().chain(self.quiet()).min()
    }

    /// Writes to the port what it takes.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        while !self.unsent.is_empty() {
            match self.port.write(&self.unsent)? {
                0 => return Ok(()),
                sent => drop(self.unsent.drain(..sent)),
            }
        }
        if let Link::Open(connection) = &mut self.link {
            connection.flush(&self.port)?;
        }
        self.hold_if_silent();
        Ok(())
    }
}
