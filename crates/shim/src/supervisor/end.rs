//! The end of a box: its VM ended, its end written down, everybody told. Called by `launch`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use boxwood_state::clock::Moment;
use boxwood_state::control::Reply;
use boxwood_state::events::Action;
use boxwood_state::metrics::Counter;
use boxwood_state::{AfterExit, ExitRecord, failpoint};
use boxwood_types::{BoxState, ExitReason, ExitStatus};
use boxwood_vmm::{Ended as vm, Vm};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Supervisor;
use crate::clients::{self, Asked, Wanted};
use crate::door::Door;
use crate::note::note;
use crate::output::{Outgoing, Sender};
use crate::restart;

/// How long QEMU may take to be gone after SIGKILL before it is reported as stuck.
const REAP: Duration = Duration::from_secs(10);

/// How one run of a box has ended.
pub(crate) enum Ended {
    /// There is no other.
    ForGood(ExitRecord),
    /// The next one begins at this time.
    ForNow { exit: ExitRecord, at: Instant },
}

impl Supervisor {
    /// Ends the VM, then writes the end down, then removes the box if it is to be removed. Returns
    /// what to tell everybody, and when the box is started again.
    pub(crate) async fn conclude(&mut self, vm: Option<Vm>, mut exit: ExitRecord) -> Ended {
        if let Some(mut vm) = vm {
            let ended = loop {
                match vm.end(REAP).await {
                    Ok(ended) => break ended,
                    // Nothing of the box is touched while its VM may still use it (contract H3).
                    Err(stuck) => note!("{}", boxwood_types::chain(&stuck)),
                }
            };
            let counter = match ended {
                vm::Reaped(_) => Counter::ChildrenReaped,
                vm::NotOurs => Counter::ChildrenVanished,
            };
            self.announcer.counters.add(counter, 1);
            failpoint("shim: vm ended");
        }
        self.explain(&mut exit).await;
        self.record.finished = Some(Moment::now());
        self.record.vmm_pid = None;
        let ran = self.run.running_since.map_or(Duration::ZERO, |since| since.elapsed());
        let die = Action::Die { code: exit.code, ran: ran.as_secs() };
        match self.back_off.after(self.spec.restart, &exit, self.wanted, ran) {
            None => Ended::ForGood(self.write_end(exit, Some(&die))),
            Some(wait) => {
                let at = Instant::now() + wait;
                self.record.restarts = self.back_off.restarts();
                self.record.exit = Some(exit.clone());
                self.persist(BoxState::Restarting);
                self.announcer.counters.add(Counter::Restarts, 1);
                self.announce_death(exit.reason, &die);
                failpoint("shim: restarting written");
                Ended::ForNow { exit, at }
            }
        }
    }

    /// Writes down that the box has ended like this, or removes it. It has died just now, or before.
    pub(super) fn write_end(&mut self, mut exit: ExitRecord, die: Option<&Action>) -> ExitRecord {
        let never_ran = matches!(exit.reason, ExitReason::FailedToStart | ExitReason::Refused);
        self.record.state = if never_ran { BoxState::Failed } else { BoxState::Exited };
        self.record.stopped = self.wanted != restart::Wanted::Running;
        self.record.exit = Some(exit.clone());
        // Once the box is removed, nobody can look any more.
        self.announcer.look();
        let result = match self.spec.after_exit {
            AfterExit::Keep => self.dir.write_end(&self.record),
            // No reader can see a live record without its box: removing is one rename.
            AfterExit::Remove => self.home.remove(&self.dir),
        };
        let failed = result.err().map(|error| boxwood_types::chain(&error));
        if let Some(why) = &failed {
            note!("{why}");
            append(&mut exit.message, why);
        }
        // Of a box that is gone nobody will ask how it ended; what is left of its files goes with the next command.
        self.unwritten = failed.filter(|_| self.dir.path().exists());
        self.announce_end(exit.reason, die);
        exit
    }

    fn announce_death(&self, reason: ExitReason, die: &Action) {
        if reason.is_out_of_memory() {
            self.announcer.say(&Action::Oom);
        }
        self.announcer.say(die);
    }

    fn announce_end(&self, reason: ExitReason, die: Option<&Action>) {
        if let Some(die) = die {
            self.announce_death(reason, die);
        }
        if self.wanted == restart::Wanted::Stopped {
            self.announcer.say(&Action::Stop);
        }
        if self.spec.after_exit == AfterExit::Remove {
            self.announcer.say(&Action::Destroy);
        }
    }

    /// Adds what people need to find out why a box failed.
    async fn explain(&mut self, exit: &mut ExitRecord) {
        if let Some(failure) = self.output.log_failure() {
            append(&mut exit.message, &format!("its log is not complete: {failure}"));
        }
        let unexplained = exit.status == ExitStatus::Unknown
            && matches!(exit.reason, ExitReason::VmDied | ExitReason::FailedToStart);
        if !unexplained {
            return;
        }
        self.run.console.settle().await;
        let last = self.run.console.last_words(3);
        if !last.is_empty() {
            // Only kept for people; the record has its last lines, too.
            let _ = std::fs::write(self.dir.console(), self.run.console.text());
            append(&mut exit.message, &format!("last lines of its console: {last}"));
        }
    }

    /// Tells everybody who waits how the box ended, and returns when they have heard it or gone. Nobody who
    /// has come by then is left without a word.
    pub(crate) async fn say_goodbye(
        mut self,
        exit: ExitRecord,
        door: Door,
        asked: &mut mpsc::Receiver<Asked>,
    ) {
        self.part(exit.clone());
        door.close();
        let ended = clients::frame(&Reply::Ended { exit, unwritten: self.unwritten.clone() });
        let message = "its main has ended".to_owned();
        let refused = clients::frame(&Reply::Refused { state: self.record.state, message });
        while let Some(asked) = asked.recv().await {
            let (client, word) = match asked {
                // What was not begun has not ended with the box.
                Asked::Streams(Wanted::Session(_), caller) => (caller.reply, &refused),
                Asked::Streams(Wanted::Main(_), caller) => (caller.reply, &ended),
                Asked::Request(_, client) => (client, &ended),
                Asked::StarterGone => continue,
            };
            self.partings.spawn_local(part(client, word.clone()));
        }
        self.partings.join_all().await;
    }

    /// Begins to tell everybody who waits how this run ended. Nobody is waited for.
    pub(super) fn part(&mut self, exit: ExitRecord) {
        let goodbye = clients::frame(&Reply::Ended { exit, unwritten: self.unwritten.clone() });
        let mut everybody = self.waiters.take();
        everybody.extend(self.curious.take());
        everybody.extend(self.run.starter.take());
        everybody.extend(self.run.early.drain(..).map(|(caller, _)| caller.reply));
        let (bereaved, mut sessions) = std::mem::take(&mut self.run.relays).into_bereaved();
        everybody.extend(bereaved);
        for client in everybody {
            self.partings.spawn_local(part(client, goodbye.clone()));
        }
        // Sessions end with the link, once their clients have taken what was said before.
        self.partings.spawn_local(async move {
            let mut partings = JoinSet::new();
            while let Some(ended) = sessions.join_next().await {
                if let Ok(Some(client)) = ended {
                    partings.spawn_local(part(client, goodbye.clone()));
                }
            }
            partings.join_all().await;
        });
        // Those of earlier runs that have been heard.
        while self.partings.try_join_next().is_some() {}
    }
}

async fn part(client: Sender, goodbye: Rc<Vec<u8>>) {
    if client.send(Outgoing::Last(goodbye)).await.is_ok() {
        client.closed().await;
    }
}

fn append(message: &mut Option<String>, text: &str) {
    match message {
        Some(message) => {
            message.push_str("; ");
            message.push_str(text);
        }
        None => *message = Some(text.to_owned()),
    }
}
