//! What clients ask: answered at once, handed on to the guest, or made an event of the box's life. Called by
//! the loop.

use boxwood_state::control::{Reply, Request, SessionAct};
use boxwood_state::events::Action;
use boxwood_state::{BoxSpec, Client, StopPolicy};
use boxwood_types::Signal;
use boxwood_wire::message::{ControlRequest, Target};

use tokio::sync::mpsc;

use super::{Guest, Supervisor, tell};
use crate::clients::{self, Asked, Caller, Past, Wanted};
use crate::life::{Event, Life};
use crate::output::Sender;
use crate::replay::replay;
use crate::report;
use crate::restart::Wanted as Wish;

/// How main is stopped by SIGKILL.
const AT_ONCE: StopPolicy = StopPolicy { signal: Signal::KILL, grace_ms: 0 };

impl Supervisor {
    pub(super) fn answer(
        &mut self,
        asked: Asked,
        life: &Life,
        (guest, news): (&Guest, &mpsc::Sender<Event>),
    ) -> Option<Event> {
        let (request, client) = match asked {
            Asked::StarterGone if self.spec.client == Client::Detached => return None,
            Asked::StarterGone => {
                return Some(self.wish(Wish::Stopped, Event::StopAsked(self.spec.stop)));
            }
            Asked::Streams(wanted, caller) => {
                self.connect(wanted, caller, life, guest);
                return None;
            }
            Asked::Request(request, client) => (request, client),
        };
        match request {
            Request::Wait | Request::Result if self.too_many_wait(&client) => None,
            Request::Wait => {
                self.waiters.add(client);
                None
            }
            Request::Result => {
                match life.result() {
                    Some(exit) => tell(&client, &Reply::Result { exit: exit.clone() }),
                    None => self.curious.add(client),
                }
                None
            }
            Request::Signal { signal } => {
                if ends(signal, &self.spec) {
                    self.wanted = Wish::Killed;
                }
                if signal == Signal::KILL && !matches!(life, Life::Leaving { .. }) {
                    // Main can't outlive this one, so there is a deadline for it.
                    tell(&client, &Reply::Done);
                    return Some(Event::StopAsked(AT_ONCE));
                }
                if let Some(refused) = unable(life) {
                    tell(&client, &refused);
                    return None;
                }
                self.announcer.say(&Action::Kill(signal));
                let target = Target::Main;
                hand_on(guest, client, life, ControlRequest::Signal { target, signal })
            }
            Request::Stop { signal, grace_ms } => {
                self.waiters.add(client);
                let policy = self.spec.stop;
                let signal = signal.unwrap_or(policy.signal);
                let grace_ms = grace_ms.unwrap_or(policy.grace_ms);
                Some(self.wish(Wish::Stopped, Event::StopAsked(StopPolicy { signal, grace_ms })))
            }
            Request::Kill => {
                self.waiters.add(client);
                self.announcer.say(&Action::Kill(Signal::KILL));
                Some(self.wish(Wish::Killed, Event::KillAsked))
            }
            Request::Pause | Request::Unpause => self.answer_pause(&request, client, life),
            Request::Session { session, act } => {
                let target = Target::Session(session);
                hand_on(
                    guest,
                    client,
                    life,
                    match act {
                        SessionAct::Signal(signal) => ControlRequest::Signal { target, signal },
                        SessionAct::Resize(size) => ControlRequest::Resize { target, size },
                        SessionAct::Release => ControlRequest::Release { stream: session },
                    },
                )
            }
            Request::Resize { size } => {
                hand_on(guest, client, life, ControlRequest::Resize { target: Target::Main, size })
            }
            Request::Usage => {
                tell(&client, &self.usage(life));
                None
            }
            Request::Capture { token, part } => {
                self.begin_capture((&token, part), (client, life), (guest, news));
                None
            }
            Request::Reload => {
                let reply = self.reload();
                tell(&client, &reply.unwrap_or(Reply::Done));
                None
            }
            Request::Report { of } => {
                match unable(life) {
                    Some(refused) => tell(&client, &refused),
                    None => report::begin(guest.questions.clone(), of, life.state(), client),
                }
                None
            }
            Request::Release => {
                self.spec.client = Client::Detached;
                self.announcer.say(&Action::Detach);
                tell(&client, &Reply::Done);
                None
            }
            // Their connections come as `Asked::Streams`.
            Request::Exec { .. } | Request::Attach | Request::Replay => None,
        }
    }

    /// What is asked for is done first, and then said to be.
    fn answer_pause(&mut self, request: &Request, client: Sender, life: &Life) -> Option<Event> {
        let (event, message) = match (request, life) {
            (Request::Pause, Life::Running) if self.capturing.is_some() => {
                (None, "it is being captured: try again")
            }
            (Request::Pause, Life::Running) => (Some(Event::PauseAsked), ""),
            (Request::Unpause, Life::Paused) => (Some(Event::UnpauseAsked), ""),
            (Request::Pause, Life::Paused) => (None, "it is paused already"),
            (Request::Pause, _) => (None, "only a running box can be paused"),
            (_, _) => (None, "it is not paused"),
        };
        match event {
            Some(_) => self.asker = Some(client),
            None => tell(&client, &Reply::Refused { state: life.state(), message: message.into() }),
        }
        event
    }

    /// Makes a connection what its client wants it to be.
    fn connect(&mut self, wanted: Wanted, caller: Caller, life: &Life, guest: &Guest) {
        if let Some(refused) = unable(life) {
            return tell(&caller.reply, &refused);
        }
        if matches!(wanted, Wanted::Main(_)) && self.too_many_wait(&caller.reply) {
            return;
        }
        match (wanted, life) {
            // While the box starts it waits in the guest (contract G1).
            (Wanted::Session(exec), _) => {
                self.run.relays.begin(&guest.link, &exec, caller, &self.announcer)
            }
            (Wanted::Main(past), Life::Starting { .. }) => self.run.early.push((caller, past)),
            (Wanted::Main(past), _) => self.attach(caller, past, guest),
        }
    }

    /// Whether there are more clients than may wait for the box, besides this one; it is told so.
    pub(super) fn too_many_wait(&mut self, client: &Sender) -> bool {
        self.run.early.retain(|(caller, _)| !caller.reply.is_closed());
        let waiting = self.waiters.count() + self.curious.count() + self.run.early.len();
        let too_many = waiting >= self.patience && !self.waiters.has(client);
        if too_many {
            let message = format!("{waiting} clients wait for it or are attached already");
            tell(client, &Reply::Refused { state: self.record.state, message });
        }
        too_many
    }

    /// Gives a client main's standard streams, and the word that the box has ended.
    pub(super) fn attach(&mut self, caller: Caller, past: Past, guest: &Guest) {
        self.announcer.say(&Action::Attach);
        tell(&caller.reply, &Reply::Attached);
        let client = caller.reply.clone();
        match past {
            Past::Dropped => {
                self.output.attach(client.clone());
                self.waiters.add(client);
            }
            Past::Told => {
                self.run.relays.adopt(replay(self.output.clone(), self.dir.log(), client));
            }
        }
        clients::feed_main(caller, guest.stdin.clone());
    }
}

/// Whether who sends this signal wants the box to end. As with Docker, others may end it as well, and
/// then its policy holds.
pub(super) fn ends(signal: Signal, spec: &BoxSpec) -> bool {
    signal == Signal::KILL || signal == spec.stop.signal
}

/// The answer of a box in which nothing can be done now.
fn unable(life: &Life) -> Option<Reply> {
    let message = match life {
        Life::Leaving { .. } | Life::Ending { .. } => "its main has ended",
        Life::Paused => "unpause it first",
        Life::Starting { .. } | Life::Running | Life::Stopping { .. } => return None,
    };
    Some(Reply::Refused { state: life.state(), message: message.to_owned() })
}

/// Hands a request on to the guest and then says so.
fn hand_on(guest: &Guest, client: Sender, life: &Life, request: ControlRequest) -> Option<Event> {
    let asker = client.clone();
    if guest.orders.send(request, move || tell(&asker, &Reply::Done)).is_err() {
        let message = "its guest takes no more requests; 'boxwood kill' ends it".to_owned();
        tell(&client, &Reply::Refused { state: life.state(), message });
    }
    None
}
