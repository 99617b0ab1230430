//! The control service: signals and sizes for main and sessions, main's stop, signs of life, and the
//! clock. Part of `guest`.

use std::time::{Duration, Instant};

use boxwood_types::Signal;
use boxwood_wire::frame::Kind;
use boxwood_wire::message::{ControlReply, ControlRequest, Target};
use boxwood_wire::mux::StreamId;

use crate::clock;
use crate::fault::{Fault, Step};
use crate::guest::{Guest, MAIN_SLOT, Main};
use crate::processes;
use crate::session::{Session, files, user};
use crate::sys;

/// What came for main before there was one (contract G8).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    signals: Vec<Signal>,
    stop: Option<(Signal, u64)>,
}

impl Held {
    /// Keeps a signal. Like the kernel with a pending one, each once.
    fn signal(&mut self, signal: Signal) {
        if !self.signals.contains(&signal) {
            self.signals.push(signal);
        }
    }
}

/// The longest grace that makes a difference: a year.
const MAX_GRACE_MS: u64 = 365 * 24 * 3600 * 1000;

impl Guest {
    /// Answers what came on a control stream.
    pub(crate) fn serve_control(&mut self, id: StreamId) -> Result<(), Fault> {
        loop {
            let Some(connection) = self.connection() else { return Ok(()) };
            let request = match connection.frame(id) {
                Ok(None) => return Ok(()),
                Ok(Some(frame)) if frame.kind == Kind::Request => {
                    boxwood_wire::frame::parse::<ControlRequest>(&frame.payload).ok()
                }
                Ok(Some(_)) | Err(_) => None,
            };
            match request {
                Some(ControlRequest::Ping { nonce }) => {
                    let reply = ControlReply::Pong { nonce, counters: self.counters };
                    self.report(id, &reply);
                }
                Some(ControlRequest::Processes { nonce }) => {
                    let reply = self.processes(nonce);
                    self.report(id, &reply);
                }
                Some(ControlRequest::Signal { target: Target::Main, signal }) => {
                    self.signal_main(signal)?;
                }
                Some(ControlRequest::Signal { target: Target::Session(stream), signal }) => {
                    if let Some(session) = self.session_on(stream) {
                        session.signal(signal);
                    }
                }
                Some(ControlRequest::Resize { target, size }) => {
                    if let Some(session) = self.target(target) {
                        session.resize(size)?;
                    }
                }
                Some(ControlRequest::Release { stream }) => {
                    if let Some(session) = self.session_on(stream) {
                        session.release();
                    }
                }
                Some(ControlRequest::Stop { signal, grace_ms }) => {
                    self.stop_main(signal, grace_ms)?;
                }
                Some(ControlRequest::Hold { nonce, mark }) => {
                    self.hold(id, nonce, mark);
                    return Ok(());
                }
                Some(ControlRequest::SetClock { by_ns }) => {
                    if let Err(errno) = clock::shift(by_ns) {
                        eprintln!("boxwood-guest: can't set the clock by {by_ns} ns: {errno}");
                    }
                }
                Some(ControlRequest::Beat { nonce, every_ms }) => {
                    self.begin_beat(id, nonce, every_ms);
                }
                None => {
                    connection.abort(id);
                    return Ok(());
                }
            }
        }
    }

    fn report(&mut self, id: StreamId, reply: &ControlReply) {
        if let Some(connection) = self.connection() {
            connection.reply(id, reply);
        }
    }

    fn processes(&self, nonce: u64) -> ControlReply {
        let passwd = self.root.as_ref().map(|root| files::read(root.top(), c"etc/passwd"));
        // Without it users have numbers.
        let names = user::names(&passwd.and_then(Result::ok).unwrap_or_default());
        let (processes, more) = processes::list(&names);
        ControlReply::Processes { nonce, processes, more }
    }

    /// Gives main what was held for it.
    pub(crate) fn deliver(&mut self, held: Held) -> Result<(), Fault> {
        for signal in held.signals {
            self.signal_main(signal)?;
        }
        match held.stop {
            Some((signal, grace_ms)) => self.stop_main(signal, grace_ms),
            None => Ok(()),
        }
    }

    fn signal_main(&mut self, signal: Signal) -> Result<(), Fault> {
        if let Main::Awaited(held) = &mut self.main {
            held.signal(signal);
        } else if let Some(pid) = self.main_process() {
            sys::kill(pid, signal.number().into())
                .step_with(|| format!("send {signal} to main"))?;
        }
        Ok(())
    }

    fn stop_main(&mut self, signal: Signal, grace_ms: u64) -> Result<(), Fault> {
        match &mut self.main {
            Main::Awaited(held) => {
                held.stop = Some((signal, grace_ms));
                Ok(())
            }
            Main::Alive { kill_at, .. } => {
                let at = Instant::now() + Duration::from_millis(grace_ms.min(MAX_GRACE_MS));
                // A second stop may shorten the first one's grace, not lengthen it.
                *kill_at = Some(kill_at.map_or(at, |earlier| earlier.min(at)));
                self.signal_main(signal)
            }
            Main::Emptying | Main::Left => Ok(()),
        }
    }

    fn target(&mut self, target: Target) -> Option<&mut Session> {
        match target {
            Target::Main => self.sessions[MAIN_SLOT].as_mut(),
            Target::Session(stream) => self.session_on(stream),
        }
    }

    /// Does what main's and the sessions' deadlines ask for, and gives a sign of life at its time.
    pub(crate) fn keep_deadlines(&mut self) -> Result<(), Fault> {
        if self.sessions.iter().flatten().any(|session| session.deadline().is_some()) {
            let now = Instant::now();
            self.sessions.iter_mut().flatten().for_each(|session| session.keep_deadline(now));
        }
        self.beat_in_time();
        self.end_main_in_time()
    }

    /// Kills main and its tree when its grace is over.
    fn end_main_in_time(&mut self) -> Result<(), Fault> {
        let Main::Alive { kill_at, .. } = &mut self.main else { return Ok(()) };
        if kill_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        *kill_at = None;
        // The cgroup is main's tree, whatever its processes did to their groups and sessions. Root in
        // the box can leave or remove it; main itself can't get away, and with it goes the rest.
        let _ = rustix::io::write(&self.machine.prepared.main_kill, b"1");
        match self.main_process() {
            Some(pid) => sys::kill(pid, Signal::KILL.number().into()).step("kill main"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g8_what_comes_before_main_is_held_once_and_in_order() {
        let mut held = Held::default();
        for signal in [Signal::HUP, Signal::INT, Signal::HUP] {
            held.signal(signal);
        }
        assert_eq!(held.signals, [Signal::HUP, Signal::INT]);
    }
}
