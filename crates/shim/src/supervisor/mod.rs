//! The one owner of a box: every transition of its life is made here.
//!
//! The tasks around it (the guest's streams, the clients, QEMU) only report; [`Life`] says what
//! their reports mean; the loop here does it (`acts`), writes it down, and only then tells anybody.
//! What clients ask is in `answers`; the end of a run and of the box in `end`, and what is between two
//! runs in `back_off`.

mod acts;
mod answers;
mod back_off;
mod capture;
mod end;
mod update;
mod usage;
mod waiters;

pub(crate) use back_off::Then;
pub(crate) use capture::Capturing;
pub(crate) use end::Ended;
pub(crate) use waiters::Waiters;

use std::rc::Rc;
use std::time::{Duration, Instant};

use boxwood_state::control::Reply;
use boxwood_state::{AfterExit, BoxDir, BoxSpec, ExitRecord, Home, Record};
use boxwood_types::{BoxState, Signal};
use boxwood_vmm::{Vm, VmExit, VmStatus};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::Remake;
use crate::announcer::Announcer;
use crate::clients::{self, Asked};
use crate::guest_time::Cause;
use crate::life::{Event, Life};
use crate::link::{Link, StreamWriter};
use crate::note::note;
use crate::orders::Orders;
use crate::output::{Outgoing, Output, Sender};
use crate::questions::Questions;
use crate::restart::{BackOff, Wanted};
use crate::run::Run;
use crate::told::Told;

/// How long QEMU's own end is awaited when its channel has ended: the two come together.
const EXIT_AFTER_HANG_UP: Duration = Duration::from_millis(500);
/// How long the last words of a dead VM are awaited: they are in our own buffers.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Whom the supervisor listens to, whether there is a VM or not.
pub(crate) struct Ears {
    pub(crate) asked: mpsc::Receiver<Asked>,
    pub(crate) told: Told,
}

/// What is heard of the guest of one run.
pub(crate) struct News {
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) sender: mpsc::Sender<Event>,
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
    /// Why the record on the disk is an older one, if so.
    pub(crate) unwritten: Option<String>,
    pub(crate) output: Rc<Output>,
    pub(crate) waiters: Waiters,
    /// Who wants main's result as soon as it is known.
    pub(crate) curious: Waiters,
    /// How many may wait at the same time, so that there is room for who wants something done.
    pub(crate) patience: usize,
    /// Who asked for the event at hand and waits until it was dealt with.
    pub(crate) asker: Option<Sender>,
    /// The capture that was asked for, until its guest stands still.
    pub(crate) capturing: Option<Capturing>,
    pub(crate) remake: Remake,
    pub(crate) announcer: Announcer,
    /// What belongs to the VM at hand.
    pub(crate) run: Run,
    /// The waits between its runs.
    pub(crate) back_off: BackOff,
    /// Whether it has been asked to end.
    pub(crate) wanted: Wanted,
    /// Those who are still being told how an earlier run ended.
    pub(crate) partings: JoinSet<()>,
}

impl Supervisor {
    /// Writes down that the box is starting, and who its shim is.
    pub(crate) fn begin(&mut self) {
        self.record.exit = None;
        self.persist(BoxState::Starting);
        // A box that is removed at its end leaves no record of it. Without room it runs all the same.
        if self.spec.after_exit == AfterExit::Keep
            && let Err(error) = self.dir.take_room()
        {
            note!("{}", boxwood_types::chain(&error));
        }
    }

    /// Makes another run the one at hand.
    pub(crate) fn begin_again(&mut self, run: Run) {
        self.run = run;
        self.output.begin_again();
    }

    /// Somebody wants the box to end, so no policy starts it again.
    fn wish(&mut self, wanted: Wanted, event: Event) -> Event {
        self.wanted = wanted;
        event
    }

    /// Keeps the box until its VM has ended, and says how it ended.
    pub(crate) async fn supervise(
        &mut self,
        vm: &mut Vm,
        guest: &Guest,
        (news, ears): (&mut News, &mut Ears),
    ) -> ExitRecord {
        let mut life = Life::starting(Instant::now());
        loop {
            let deadline = life.deadline().map(tokio::time::Instant::from_std);
            let event = tokio::select! {
                biased;
                Some(event) = news.events.recv() => event,
                exit = vm.exited() => self.vm_ended(&exit),
                Some(asked) = ears.asked.recv() => match self.answer(asked, &life, (guest, &news.sender)) {
                    Some(event) => event,
                    None => continue,
                },
                () = ears.told.stop() => self.wish(Wanted::Stopped, Event::StopAsked(self.spec.stop)),
                () = until(deadline) => Event::DeadlinePassed,
            };
            for event in self.in_order(event, vm, news).await {
                let started = event == Event::MainStarted;
                let (next, action) = life.take(event, self.spec.after_exit, Instant::now());
                life = next;
                self.record.exit = life.result().cloned();
                if let Err(failed) = self.act(action, vm, guest).await {
                    self.refuse_asker(&life, &boxwood_types::chain(&failed));
                    life = life.take(Event::PauseFailed, self.spec.after_exit, Instant::now()).0;
                }
                self.answer_asker();
                self.tell_result(&life);
                if started {
                    guest.link.time().go_on(Cause::Awaited);
                    self.output.open();
                    if life == Life::Running {
                        self.begin_check(guest, &news.sender);
                    }
                }
            }
            if let Life::Ending { exit } = life {
                return exit;
            }
            if life == Life::Running {
                for (caller, past) in std::mem::take(&mut self.run.early) {
                    self.attach(caller, past, guest);
                }
            }
        }
    }

    /// What the end of QEMU means. Nobody of us has ended it yet, so a KILL was somebody else's.
    fn vm_ended(&self, exit: &VmExit) -> Event {
        let how = format!("QEMU ended: {exit}");
        let killed = exit.status == VmStatus::Signaled(Signal::KILL.number().into());
        let pid = self.run.vm.as_ref().map(|vm| vm.pid);
        match pid.filter(|_| killed) {
            Some(pid) if self.run.oom.killed(pid) => Event::VmStarved(how),
            _ => Event::VmExited(how),
        }
    }

    /// A hang-up and the end of QEMU come together, and the guest may have said how main ended
    /// right before: first what it said, then why it said no more.
    async fn in_order(&self, event: Event, vm: &mut Vm, news: &mut News) -> Vec<Event> {
        let last = match event {
            Event::LinkLost(why) => {
                match tokio::time::timeout(EXIT_AFTER_HANG_UP, vm.exited()).await {
                    Ok(exit) => self.vm_ended(&exit),
                    Err(_) => return vec![Event::LinkLost(why)],
                }
            }
            Event::VmExited(_) | Event::VmStarved(_) => event,
            other => return vec![other],
        };
        self.output.hurry();
        // Whether it ends in time or not, what it has reported by then is what there is.
        if let Some(main) = &mut news.main {
            let _ = tokio::time::timeout(LAST_WORDS, main).await;
        }
        let mut events: Vec<Event> = std::iter::from_fn(|| news.events.try_recv().ok()).collect();
        events.retain(|event| !matches!(event, Event::LinkLost(_)));
        events.push(last);
        events
    }
}

fn tell(client: &Sender, reply: &Reply) {
    // A client that asks without reading the answers has only itself to blame.
    let _ = client.try_send(Outgoing::Frame(clients::frame(reply)));
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
