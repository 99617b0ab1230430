//! The one owner of a box: every transition of its life is made here.
//!
//! The tasks around it (the guest's streams, the clients, QEMU) only report; [`Life`] says what
//! their reports mean; this loop does it, writes it down, and only then tells anybody.

use std::rc::Rc;
use std::time::{Duration, Instant};

use boxwood_state::clock::Moment;
use boxwood_state::control::{Reply, Request};
use boxwood_state::{AfterExit, BoxDir, BoxSpec, ExitRecord, Home, Record, StopPolicy};
use boxwood_types::{BoxState, ExitReason, ExitStatus};
use boxwood_vmm::Vm;
use boxwood_wire::message::ControlRequest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clients::{self, Asked};
use crate::console::Console;
use crate::life::{Action, Event, Life};
use crate::link::StreamWriter;
use crate::note::note;
use crate::output::{Outgoing, Output, Sender};
use crate::steps::Steps;

/// How long QEMU may take to be gone after SIGKILL before it is reported as stuck.
const REAP: Duration = Duration::from_secs(10);
/// How long QEMU's own end is awaited when its channel has ended: the two come together.
const EXIT_AFTER_HANG_UP: Duration = Duration::from_millis(500);
/// How long the last words of a dead VM are awaited: they are in our own buffers.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the supervisor hears from.
pub(crate) struct Sources {
    pub(crate) asked: mpsc::Receiver<Asked>,
    pub(crate) news: mpsc::Receiver<Event>,
    pub(crate) told: crate::told::Told,
    /// The conversation with the guest, until main's last word.
    pub(crate) main: Option<JoinHandle<()>>,
}

/// A box under supervision.
pub(crate) struct Supervisor {
    pub(crate) home: Home,
    pub(crate) dir: BoxDir,
    pub(crate) spec: BoxSpec,
    pub(crate) record: Record,
    pub(crate) console: Console,
    pub(crate) output: Rc<Output>,
    pub(crate) starter: Option<Sender>,
    pub(crate) waiters: Vec<Sender>,
    pub(crate) steps: Steps,
}

impl Supervisor {
    /// Writes down that the box is starting, and who its shim is.
    pub(crate) fn begin(&mut self) {
        self.persist(BoxState::Starting);
    }

    /// Keeps the box until its VM has ended, and says how it ended.
    pub(crate) async fn supervise(
        &mut self,
        vm: &mut Vm,
        control: &StreamWriter,
        sources: &mut Sources,
    ) -> ExitRecord {
        let mut life = Life::starting(Instant::now());
        loop {
            let deadline = life.deadline().map(tokio::time::Instant::from_std);
            let event = tokio::select! {
                biased;
                Some(event) = sources.news.recv() => event,
                exit = vm.exited() => Event::VmExited(format!("QEMU ended: {exit}")),
                Some(asked) = sources.asked.recv() => match self.answer(asked, &life) {
                    Some(event) => event,
                    None => continue,
                },
                () = sources.told.stop() => Event::StopAsked(self.spec.stop),
                () = until(deadline) => Event::DeadlinePassed,
            };
            for event in self.in_order(event, vm, sources).await {
                let (next, action) = life.take(event, self.spec.after_exit, Instant::now());
                life = next;
                self.act(action, control).await;
            }
            if let Life::Ending { exit } = life {
                return exit;
            }
        }
    }

    /// A hang-up and the end of QEMU come together, and the guest may have said how main ended
    /// right before: first what it said, then why it said no more.
    async fn in_order(&self, event: Event, vm: &mut Vm, sources: &mut Sources) -> Vec<Event> {
        let last = match event {
            Event::LinkLost(why) => {
                match tokio::time::timeout(EXIT_AFTER_HANG_UP, vm.exited()).await {
                    Ok(exit) => Event::VmExited(format!("QEMU ended: {exit}")),
                    Err(_) => return vec![Event::LinkLost(why)],
                }
            }
            Event::VmExited(how) => Event::VmExited(how),
            other => return vec![other],
        };
        self.output.hurry();
        // Whether it ends in time or not, what it has reported by then is what there is.
        if let Some(main) = &mut sources.main {
            let _ = tokio::time::timeout(LAST_WORDS, main).await;
        }
        let mut events: Vec<Event> = std::iter::from_fn(|| sources.news.try_recv().ok()).collect();
        events.retain(|event| !matches!(event, Event::LinkLost(_)));
        events.push(last);
        events
    }

    async fn act(&mut self, action: Action, control: &StreamWriter) {
        let request = match action {
            Action::None | Action::EndVm => return,
            Action::Persist(state) => return self.persist(state),
            Action::AskStop(StopPolicy { signal, grace_ms }) => {
                self.output.hurry();
                self.persist(BoxState::Stopping);
                ControlRequest::Stop { signal, grace_ms }
            }
            Action::Forward(signal) => ControlRequest::Signal { signal },
        };
        // A guest that no longer listens is found by its hang-up or by the deadline.
        let _ = control.send_value(&request).await;
    }

    /// Writes a transition down, then announces it.
    fn persist(&mut self, state: BoxState) {
        self.record.state = state;
        if state == BoxState::Running {
            self.record.started = Some(Moment::now());
        }
        if let Err(error) = self.dir.write_record(&self.record) {
            // The box runs on: a full disk must not end it. Its end is written again.
            note!("{}", boxwood_types::chain(&error));
        }
        if state == BoxState::Running
            && let Some(starter) = &self.starter
        {
            self.steps.mark("main started");
            tell(starter, &Reply::Started { steps: self.steps.all() });
        }
    }

    fn answer(&mut self, asked: Asked, life: &Life) -> Option<Event> {
        let (request, client) = match asked {
            Asked::StarterGone => return Some(Event::StopAsked(self.spec.stop)),
            Asked::Request(request, client) => (request, client),
        };
        match request {
            Request::Wait => {
                self.waiters.push(client);
                None
            }
            Request::Signal { signal } => {
                if matches!(life, Life::Leaving { .. }) {
                    let message = "main has ended".to_owned();
                    tell(&client, &Reply::Refused { state: life.state(), message });
                    return None;
                }
                tell(&client, &Reply::Done);
                Some(Event::SignalAsked(signal))
            }
            Request::Stop { signal, grace_ms } => {
                self.waiters.push(client);
                let policy = self.spec.stop;
                Some(Event::StopAsked(StopPolicy {
                    signal: signal.unwrap_or(policy.signal),
                    grace_ms: grace_ms.unwrap_or(policy.grace_ms),
                }))
            }
            Request::Kill => {
                self.waiters.push(client);
                Some(Event::KillAsked)
            }
        }
    }

    /// Ends the VM, then writes the end down, then removes the box if it is to be removed. Returns
    /// what to tell everybody.
    pub(crate) async fn conclude(&mut self, vm: Option<Vm>, mut exit: ExitRecord) -> ExitRecord {
        if let Some(mut vm) = vm {
            loop {
                match vm.end(REAP).await {
                    Ok(_) => break,
                    // Nothing of the box is touched while its VM may still use it (contract H3).
                    Err(stuck) => note!("{}", boxwood_types::chain(&stuck)),
                }
            }
        }
        let never_ran = matches!(exit.reason, ExitReason::FailedToStart | ExitReason::Refused);
        self.explain(&mut exit);
        self.record.state = if never_ran { BoxState::Failed } else { BoxState::Exited };
        self.record.finished = Some(Moment::now());
        self.record.vmm_pid = None;
        self.record.exit = Some(exit.clone());
        let result = match self.spec.after_exit {
            AfterExit::Keep => self.dir.write_record(&self.record),
            // No reader can see a live record without its box: removing is one rename.
            AfterExit::Remove => self.home.remove(&self.dir),
        };
        if let Err(error) = result {
            let text = boxwood_types::chain(&error);
            note!("{text}");
            append(&mut exit.message, &text);
        }
        exit
    }

    /// Adds what people need to find out why a box failed.
    fn explain(&self, exit: &mut ExitRecord) {
        if let Some(failure) = self.output.log_failure() {
            append(&mut exit.message, &format!("its log is not complete: {failure}"));
        }
        let unexplained = exit.status == ExitStatus::Unknown
            && matches!(exit.reason, ExitReason::VmDied | ExitReason::FailedToStart);
        let tail = self.console.tail();
        if unexplained && !tail.trim().is_empty() {
            // Only kept for people; the record has its last lines, too.
            let _ = std::fs::write(self.dir.console(), &tail);
            let lines: Vec<&str> = tail.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines[lines.len().saturating_sub(3)..].join(" | ");
            let last = crate::greeting::shorten(last);
            append(&mut exit.message, &format!("last lines of its console: {last}"));
        }
    }

    /// Tells everybody who waits how the box ended, and returns when they have heard it or gone.
    pub(crate) async fn say_goodbye(self, exit: ExitRecord, asked: &mut mpsc::Receiver<Asked>) {
        let goodbye = clients::frame(&Reply::Ended { exit });
        asked.close();
        let mut everybody = self.waiters;
        everybody.extend(self.starter);
        while let Some(asked) = asked.recv().await {
            if let Asked::Request(_, client) = asked {
                everybody.push(client);
            }
        }
        let mut partings = tokio::task::JoinSet::new();
        for client in everybody {
            let goodbye = Outgoing::Last(goodbye.clone());
            partings.spawn_local(async move {
                if client.send(goodbye).await.is_ok() {
                    client.closed().await;
                }
            });
        }
        partings.join_all().await;
    }
}

fn tell(client: &Sender, reply: &Reply) {
    // A client that asks without reading the answers has only itself to blame.
    let _ = client.try_send(Outgoing::Frame(clients::frame(reply)));
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

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
