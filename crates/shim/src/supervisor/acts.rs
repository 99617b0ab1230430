//! Doing what an event of the box's life has come to: QEMU, the guest, the record. Called by the loop.

use std::time::Instant;

use boxwood_state::clock::Moment;
use boxwood_state::control::Reply;
use boxwood_state::events;
use boxwood_state::metrics::{Counter, Timing};
use boxwood_state::{StopPolicy, failpoint};
use boxwood_types::{BoxState, HealthStatus};
use boxwood_vmm::{Error as VmError, Vm};
use boxwood_wire::message::ControlRequest;
use tokio::sync::mpsc;

use super::{Guest, Supervisor, tell};
use crate::clock;
use crate::guest_time::Cause;
use crate::health::{Main, Monitor, Ways};
use crate::life::{Action, Event, Life};
use crate::note::note;

impl Supervisor {
    /// Does what an event has come to. Only QEMU can fail at it.
    pub(super) async fn act(
        &mut self,
        action: Action,
        vm: &mut Vm,
        guest: &Guest,
    ) -> Result<(), VmError> {
        match action {
            Action::None | Action::EndVm => {}
            Action::Persist(state) => self.persist(state),
            Action::AskStop(policy) => self.ask_stop(policy, guest),
            Action::UnpauseAndStop(policy) => {
                // A VM that does not go on is ended at the deadline.
                let _ = vm.resume().await;
                guest.link.time().go_on(Cause::Paused);
                clock::put_forward(vm.take_stood_still(), &guest.orders);
                self.ask_stop(policy, guest);
            }
            Action::PersistHealth(health) => {
                self.record.health = Some(health);
                self.persist(BoxState::Running);
                let turned = match health {
                    HealthStatus::Healthy => Some(Counter::TurnedHealthy),
                    HealthStatus::Unhealthy => Some(Counter::TurnedUnhealthy),
                    HealthStatus::Starting => None,
                };
                turned.inspect(|turned| self.announcer.counters.add(*turned, 1));
                self.announcer.say(&events::Action::Health(health.word()));
            }
            Action::Capture => self.capture(vm, guest).await,
            Action::LetGo => self.let_go(guest),
            Action::GiveCaptureUp(why) => self.give_capture_up(why),
            Action::Pause => {
                vm.pause().await?;
                guest.link.time().stand(Cause::Paused);
                self.check(Main::StandsStill);
                self.persist(BoxState::Paused);
                self.announcer.say(&events::Action::Pause);
            }
            Action::Unpause => {
                vm.resume().await?;
                guest.link.time().go_on(Cause::Paused);
                clock::put_forward(vm.take_stood_still(), &guest.orders);
                self.check(Main::Runs);
                self.persist(BoxState::Running);
                self.announcer.say(&events::Action::Unpause);
            }
        }
        Ok(())
    }

    /// Begins to check the health of a main that runs.
    pub(super) fn begin_check(&mut self, guest: &Guest, news: &mpsc::Sender<Event>) {
        // Should that fail, the first result is the end of the old ones.
        let _ = self.dir.forget_health();
        let dir = self.home.get(&self.spec.id).ok().flatten();
        let (link, questions) = (guest.link.clone(), guest.questions.clone());
        let ways = Ways { link, questions, news: news.clone(), dir };
        self.run.health = Some(Monitor::begin(ways, &self.spec));
    }

    fn check(&self, main: Main) {
        if let Some(health) = &self.run.health {
            health.main(main);
        }
    }

    fn ask_stop(&mut self, StopPolicy { signal, grace_ms }: StopPolicy, guest: &Guest) {
        self.output.hurry();
        self.persist(BoxState::Stopping);
        self.announcer.say(&events::Action::Kill(signal));
        failpoint("shim: stop asked");
        // A guest that takes no more is found by its hang-up or by the deadline.
        let _ = guest.orders.send(ControlRequest::Stop { signal, grace_ms }, || ());
    }

    /// Writes a transition down, then announces it.
    pub(super) fn persist(&mut self, state: BoxState) {
        let first = self.run.running_since.is_none() && state == BoxState::Running;
        self.record.state = state;
        if first {
            self.run.running_since = Some(Instant::now());
            self.record.started = Some(Moment::now());
            self.record.exit = None;
            self.record.health = self.spec.health.as_ref().map(|_| HealthStatus::Starting);
        }
        if !matches!(state, BoxState::Running | BoxState::Paused) {
            // What ends is not asked how it is.
            self.run.health = None;
        }
        if first {
            failpoint("shim: main started");
        }
        let written = self.dir.write_record(&self.record);
        // The box runs on: a full disk must not end it. Its end is written again.
        self.unwritten = written.err().map(|error| boxwood_types::chain(&error));
        if let Some(why) = &self.unwritten {
            note!("{why}");
        }
        if first {
            failpoint("shim: running written");
            self.announcer.counters.took(Timing::Start, self.run.steps.elapsed());
            self.announcer.say(&events::Action::Start);
        }
        if first && let Some(starter) = &self.run.starter {
            self.run.steps.mark("main started");
            tell(starter, &Reply::Started { steps: self.run.steps.all() });
        }
    }

    /// Tells main's result to those who want nothing else, once it is written down.
    pub(super) fn tell_result(&mut self, life: &Life) {
        let Some(exit) = life.result().filter(|_| self.curious.count() > 0) else { return };
        if matches!(life, Life::Ending { .. }) {
            // Where no disk is flushed the next that is written would be the end.
            self.persist(BoxState::Stopping);
        }
        if self.unwritten.is_some() {
            // They hear it with the end, and that it is nowhere else.
            return;
        }
        failpoint("shim: result written");
        let result = Reply::Result { exit: exit.clone() };
        self.curious.take().iter().for_each(|client| tell(client, &result));
    }

    /// Tells who asked for the last event that it was done, or why not.
    pub(super) fn answer_asker(&mut self) {
        if let Some(asker) = self.asker.take() {
            tell(&asker, &Reply::Done);
        }
    }

    pub(super) fn refuse_asker(&mut self, life: &Life, why: &str) {
        if let Some(asker) = self.asker.take() {
            tell(&asker, &Reply::Refused { state: life.state(), message: why.to_owned() });
        }
    }
}
