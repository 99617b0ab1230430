//! What comes from the port: greetings, and the connection that each begins. Part of `guest`.

use std::time::Instant;

use boxwood_wire::message::Counters;
use boxwood_wire::mux::MuxError;
use boxwood_wire::preface::{self, Epoch, GuestWord, Hello, HostWord, PrefaceError};

use crate::clock;
use crate::connection::{Connection, Received};
use crate::fault::{Fault, Step};
use crate::guest::{Guest, Link, Main};
use crate::hold::Hold;
use crate::rebirth;

/// What a read from the port can return at most: the driver's buffers are one page each.
const PORT_READ: usize = 4096;

impl Guest {
    /// Reads what the port holds.
    pub(crate) fn listen(&mut self) -> Result<(), Fault> {
        let mut buffer = std::mem::take(&mut self.inbox);
        let heard = self.listen_with(&mut buffer);
        self.inbox = buffer;
        heard
    }

    /// Takes in as much at once as there is room for: much that is made of each piece is made once then.
    fn listen_with(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut held = 0;
        loop {
            let received = self.port.read(&mut buffer[held..held + PORT_READ])?;
            if let Received::Bytes(count) = received {
                held += count;
                if held + PORT_READ <= buffer.len() {
                    continue;
                }
            }
            if held > 0 {
                self.hear(&buffer[..held])?;
                held = 0;
            }
            match received {
                Received::Bytes(_) => {}
                Received::Nothing => return Ok(()),
                Received::HungUp => return self.hung_up(),
            }
        }
    }

    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.link {
            Link::Open(connection) => {
                // A box that is to stand still takes no input any more.
                let held = self.hold == Hold::Wanted;
                let sessions = &mut self.sessions;
                let received = connection.receive(bytes, |id, input| {
                    let mut sessions = sessions.iter_mut().flatten();
                    match sessions.find(|session| session.is_on(id)) {
                        Some(session) if !held => session.take_input(input),
                        _ => 0,
                    }
                });
                received.or_else(|error| self.broken(&error, bytes))
            }
            Link::Greeting(_) | Link::Held(..) => self.hear_greeting(bytes),
        }
    }

    /// Looks for a greeting. Whatever is none is skipped, however much there is.
    fn hear_greeting(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while let Link::Greeting(reader) | Link::Held(_, reader) = &mut self.link {
            match reader.push::<HostWord>(bytes) {
                Ok(None) => break,
                Ok(Some((_version, HostWord::Hello(hello)))) => {
                    self.link = Link::Greeting(std::mem::take(reader));
                    self.greeted(&hello)?;
                }
                Ok(Some((_version, HostWord::SetClock { epoch, by_ns }))) => {
                    if self.reborn_as == Some(epoch) {
                        let rest = std::mem::take(reader).into_rest();
                        return self.reborn(epoch, by_ns, &rest);
                    }
                }
                Ok(Some((_version, HostWord::Clock))) => {
                    if let Some(epoch) = self.reborn_as {
                        self.say_clock(epoch)?;
                    }
                }
                Ok(Some((_version, HostWord::Continue))) => {
                    let rest = std::mem::take(reader).into_rest();
                    let greeting = Link::Greeting(preface::Reader::new());
                    match std::mem::replace(&mut self.link, greeting) {
                        Link::Held(connection, _) => return self.go_on(connection, &rest),
                        // Nothing stands still that could go on.
                        other => self.link = other,
                    }
                }
                Ok(Some((_version, HostWord::Remember(mark)))) => {
                    self.mark = mark;
                    self.say(&GuestWord::Idle)?;
                }
                Ok(Some((_version, HostWord::Mount { warm }))) => self.mount_ahead(&warm)?,
                Err(PrefaceError::NoCommonVersion { .. }) => self.say(&GuestWord::Unsupported)?,
                Err(_) => {}
            }
            // There may be a greeting behind the one that was none.
            bytes = &[];
        }
        Ok(())
    }

    /// Begins a rebirth, of which nothing is left to do in the end but to set the clock right.
    fn greeted(&mut self, hello: &Hello) -> Result<(), Fault> {
        let epoch = hello.epoch;
        self.reborn_as = None;
        if let Err(fault) = clock::set(hello.unix_time_ns).step("set the clock") {
            return self.say(&failed(epoch, &fault));
        }
        // The answer comes while the rest is done.
        self.say_clock(epoch)?;
        if let Err(fault) = rebirth::reborn(hello, &mut self.machine.identity) {
            return self.say(&failed(epoch, &fault));
        }
        self.reborn_as = Some(epoch);
        self.counters = Counters::default();
        // What was connected before stays unconnected.
        let now = Instant::now();
        self.sessions.iter_mut().flatten().for_each(|session| session.reborn(now));
        self.early.clear();
        self.hold = Hold::No;
        Ok(())
    }

    fn say_clock(&mut self, epoch: Epoch) -> Result<(), Fault> {
        self.say(&GuestWord::Clock { epoch, unix_time_ns: clock::read() })
    }

    /// Greeting -- hello, rebirth, clock right --> Open
    fn reborn(&mut self, epoch: Epoch, by_ns: i64, rest: &[u8]) -> Result<(), Fault> {
        self.reborn_as = None;
        let right = if by_ns == 0 { Ok(()) } else { clock::shift(by_ns) };
        if let Err(fault) = right.step("set the clock right") {
            return self.say(&failed(epoch, &fault));
        }
        self.say(&GuestWord::Reborn { epoch, mark: self.mark })?;
        self.move_again()?;
        let mut connection = Box::new(Connection::new());
        let heard = connection.receive(rest, |_, _| 0);
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
        self.reborn_as = None;
        if !matches!(self.link, Link::Greeting(_)) {
            self.link = Link::Greeting(preface::Reader::new());
        }
        match self.main {
            Main::Left => crate::end(),
            _ => Ok(()),
        }
    }
}

/// The epoch of what answers no greeting.
pub(crate) const NO_EPOCH: Epoch = Epoch([0; 16]);

/// The word for a step that failed.
pub(crate) fn failed(epoch: Epoch, fault: &Fault) -> GuestWord {
    GuestWord::Failed { epoch, step: fault.step.to_string(), reason: fault.reason() }
}
