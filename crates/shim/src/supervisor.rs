//! The one owner of a box: every transition of its life is made here.
//!
//! The tasks around it (the guest's streams, the clients, QEMU) only report; [`Life`] says what
//! their reports mean; this loop does it, writes it down, and only then tells anybody.

use std::rc::Rc;
use std::time::{Duration, Instant};

use boxwood_state::clock::Moment;
use boxwood_state::control::{Reply, Request, SessionAct};
use boxwood_state::{AfterExit, BoxDir, BoxSpec, Client, ExitRecord, Home, Record, StopPolicy};
use boxwood_types::{BoxState, ExitReason, ExitStatus, Signal};
use boxwood_vmm::{Error as VmError, Vm};
use boxwood_wire::message::{ControlRequest, Target};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clients::{self, Asked, Caller, Wanted};
use crate::console::Console;
use crate::life::{Action, Event, Life};
use crate::link::{Link, StreamWriter};
use crate::note::note;
use crate::orders::Orders;
use crate::output::{Outgoing, Output, Sender};
use crate::questions::Questions;
use crate::report;
use crate::sessions::Relays;
use crate::steps::Steps;

/// How long QEMU may take to be gone after SIGKILL before it is reported as stuck.
const REAP: Duration = Duration::from_secs(10);
/// How long QEMU's own end is awaited when its channel has ended: the two come together.
const EXIT_AFTER_HANG_UP: Duration = Duration::from_millis(500);
/// How long the last words of a dead VM are awaited: they are in our own buffers.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How main is stopped by SIGKILL.
const AT_ONCE: StopPolicy = StopPolicy { signal: Signal::KILL, grace_ms: 0 };

/// What the supervisor hears from.
pub(crate) struct Sources {
    pub(crate) asked: mpsc::Receiver<Asked>,
    pub(crate) news: mpsc::Receiver<Event>,
    pub(crate) told: crate::told::Told,
    /// The conversation with the guest, until main's last word.
    pub(crate) main: Option<JoinHandle<()>>,
}

/// The guest, as the supervisor speaks to it.
pub(crate) struct Guest {
    pub(crate) link: Link,
    pub(crate) orders: Orders,
    pub(crate) questions: Questions,
    /// Main's standard input, if it is connected.
    pub(crate) stdin: Option<StreamWriter>,
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
    /// Who asked for the event at hand and waits until it was dealt with.
    pub(crate) asker: Option<Sender>,
    pub(crate) relays: Relays,
    /// Who wants main's streams and came before main.
    pub(crate) early: Vec<Caller>,
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
        guest: &Guest,
        sources: &mut Sources,
    ) -> ExitRecord {
        let mut life = Life::starting(Instant::now());
        loop {
            let deadline = life.deadline().map(tokio::time::Instant::from_std);
            let event = tokio::select! {
                biased;
                Some(event) = sources.news.recv() => event,
                exit = vm.exited() => Event::VmExited(format!("QEMU ended: {exit}")),
                Some(asked) = sources.asked.recv() => match self.answer(asked, &life, guest) {
                    Some(event) => event,
                    None => continue,
                },
                () = sources.told.stop() => Event::StopAsked(self.spec.stop),
                () = until(deadline) => Event::DeadlinePassed,
            };
            for event in self.in_order(event, vm, sources).await {
                let started = event == Event::MainStarted;
                let (next, action) = life.take(event, self.spec.after_exit, Instant::now());
                life = next;
                if let Err(failed) = self.act(action, vm, guest).await {
                    self.refuse_asker(&life, &boxwood_types::chain(&failed));
                    life = life.take(Event::PauseFailed, self.spec.after_exit, Instant::now()).0;
                }
                self.answer_asker();
                if started {
                    self.output.open();
                }
            }
            if let Life::Ending { exit } = life {
                return exit;
            }
            if life == Life::Running {
                for caller in std::mem::take(&mut self.early) {
                    self.attach(caller, guest);
                }
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

    /// Does what an event has come to. Only QEMU can fail at it.
    async fn act(&mut self, action: Action, vm: &mut Vm, guest: &Guest) -> Result<(), VmError> {
        match action {
            Action::None | Action::EndVm => {}
            Action::Persist(state) => self.persist(state),
            Action::AskStop(policy) => self.ask_stop(policy, guest),
            Action::UnpauseAndStop(policy) => {
                // A VM that does not go on is ended at the deadline.
                let _ = vm.resume().await;
                self.ask_stop(policy, guest);
            }
            Action::Pause => {
                vm.pause().await?;
                self.persist(BoxState::Paused);
            }
            Action::Unpause => {
                vm.resume().await?;
                self.persist(BoxState::Running);
            }
        }
        Ok(())
    }

    fn ask_stop(&mut self, StopPolicy { signal, grace_ms }: StopPolicy, guest: &Guest) {
        self.output.hurry();
        self.persist(BoxState::Stopping);
        // A guest that takes no more is found by its hang-up or by the deadline.
        let _ = guest.orders.send(ControlRequest::Stop { signal, grace_ms }, || ());
    }

    /// Tells who asked for the last event that it was done, or why not.
    fn answer_asker(&mut self) {
        if let Some(asker) = self.asker.take() {
            tell(&asker, &Reply::Done);
        }
    }

    fn refuse_asker(&mut self, life: &Life, why: &str) {
        if let Some(asker) = self.asker.take() {
            tell(&asker, &Reply::Refused { state: life.state(), message: why.to_owned() });
        }
    }

    /// Writes a transition down, then announces it.
    fn persist(&mut self, state: BoxState) {
        let first = self.record.state == BoxState::Starting && state == BoxState::Running;
        self.record.state = state;
        if first {
            self.record.started = Some(Moment::now());
        }
        if let Err(error) = self.dir.write_record(&self.record) {
            // The box runs on: a full disk must not end it. Its end is written again.
            note!("{}", boxwood_types::chain(&error));
        }
        if first && let Some(starter) = &self.starter {
            self.steps.mark("main started");
            tell(starter, &Reply::Started { steps: self.steps.all() });
        }
    }

    fn answer(&mut self, asked: Asked, life: &Life, guest: &Guest) -> Option<Event> {
        let (request, client) = match asked {
            Asked::StarterGone if self.spec.client == Client::Detached => return None,
            Asked::StarterGone => return Some(Event::StopAsked(self.spec.stop)),
            Asked::Streams(wanted, caller) => {
                self.connect(wanted, caller, life, guest);
                return None;
            }
            Asked::Request(request, client) => (request, client),
        };
        match request {
            Request::Wait => {
                self.waiters.push(client);
                None
            }
            Request::Signal { signal } => {
                if signal == Signal::KILL && !matches!(life, Life::Leaving { .. }) {
                    // Main can't outlive this one, so there is a deadline for it.
                    tell(&client, &Reply::Done);
                    return Some(Event::StopAsked(AT_ONCE));
                }
                if let Some(refused) = unable(life) {
                    tell(&client, &refused);
                    return None;
                }
                let target = Target::Main;
                hand_on(guest, client, life, ControlRequest::Signal { target, signal })
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
            Request::Report { of } => {
                match unable(life) {
                    Some(refused) => tell(&client, &refused),
                    None => report::begin(guest.questions.clone(), of, life.state(), client),
                }
                None
            }
            Request::Release => {
                self.spec.client = Client::Detached;
                tell(&client, &Reply::Done);
                None
            }
            // Their connections come as `Asked::Streams`.
            Request::Exec { .. } | Request::Attach => None,
        }
    }

    /// What is asked for is done first, and then said to be.
    fn answer_pause(&mut self, request: &Request, client: Sender, life: &Life) -> Option<Event> {
        let (event, message) = match (request, life) {
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
        match (wanted, life) {
            // While the box starts it waits in the guest (contract G1).
            (Wanted::Session(exec), _) => self.relays.begin(&guest.link, &exec, caller),
            (Wanted::Main, Life::Starting { .. }) => self.early.push(caller),
            (Wanted::Main, _) => self.attach(caller, guest),
        }
    }

    /// Gives a client main's standard streams, and the word that the box has ended.
    fn attach(&mut self, caller: Caller, guest: &Guest) {
        tell(&caller.reply, &Reply::Attached);
        self.output.attach(caller.reply.clone());
        self.waiters.push(caller.reply.clone());
        clients::feed_main(caller, guest.stdin.clone());
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
            match asked {
                Asked::Request(_, client) => everybody.push(client),
                Asked::Streams(_, caller) => everybody.push(caller.reply),
                Asked::StarterGone => {}
            }
        }
        everybody.extend(self.early.into_iter().map(|caller| caller.reply));
        let (bereaved, mut sessions) = self.relays.into_bereaved();
        everybody.extend(bereaved);
        let mut partings = tokio::task::JoinSet::new();
        for client in everybody {
            partings.spawn_local(part(client, goodbye.clone()));
        }
        // Sessions end with the link, once their clients have taken what was said before.
        while let Some(ended) = sessions.join_next().await {
            if let Ok(Some(client)) = ended {
                partings.spawn_local(part(client, goodbye.clone()));
            }
        }
        partings.join_all().await;
    }
}

async fn part(client: Sender, goodbye: Rc<Vec<u8>>) {
    if client.send(Outgoing::Last(goodbye)).await.is_ok() {
        client.closed().await;
    }
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
