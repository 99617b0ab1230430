//! What is told about the commands that run beside main: that they were asked for, run, and have ended, each
//! once and in this order. Told by `sessions`, and of those that nobody hears by the guest's control stream.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use boxwood_state::control::SessionEnd;
use boxwood_state::events::Action;
use boxwood_state::metrics::{Counter, Timing};
use boxwood_types::ExitStatus;
use boxwood_wire::message::ProcessReply;
use boxwood_wire::mux::StreamId;

use crate::announcer::Announcer;

/// The code of a session whose time was up, as `timeout` has it.
const TIMED_OUT: u8 = 124;
/// Sessions whose end is waited for: twice what a guest takes. More may only be those that a guest has not
/// told of.
const KEPT: usize = 256;

/// What is told about a session.
#[derive(Debug)]
pub(crate) struct News {
    announcer: Announcer,
    id: StreamId,
    command: String,
    asked: Instant,
    told: Cell<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Told {
    Nothing,
    Created,
    Started,
    Ended,
}

impl News {
    /// Of a session that was asked for this moment.
    pub(crate) fn of(announcer: &Announcer, id: StreamId, command: String) -> Rc<News> {
        let (asked, told) = (Instant::now(), Cell::new(Told::Nothing));
        Rc::new(News { announcer: announcer.clone(), id, command, asked, told })
    }

    /// It was asked for.
    pub(crate) fn created(&self) {
        if self.reaches(Told::Created) {
            self.announcer.say(&Action::ExecCreate(self.id, self.command.clone()));
        }
    }

    /// It runs.
    pub(crate) fn started(&self) {
        self.created();
        if self.reaches(Told::Started) {
            let counters = &self.announcer.counters;
            counters.add(Counter::Execs, 1);
            counters.took(Timing::Exec, self.asked.elapsed());
            self.announcer.say(&Action::ExecStart(self.id, self.command.clone()));
        }
    }

    /// It has ended, or could not run.
    pub(crate) fn ended(&self, end: &SessionEnd) {
        let code = match end {
            SessionEnd::Exited { status } => status.shell_code(),
            SessionEnd::TimedOut => TIMED_OUT,
            SessionEnd::Refused { refusal, .. } => refusal.shell_code(),
            SessionEnd::Failed { .. } => ExitStatus::Unknown.shell_code(),
        };
        match end {
            SessionEnd::Exited { .. } | SessionEnd::TimedOut => self.started(),
            SessionEnd::Refused { .. } | SessionEnd::Failed { .. } => self.created(),
        }
        if self.reaches(Told::Ended) {
            self.announcer.say(&Action::ExecDie(self.id, code));
        }
    }

    fn reaches(&self, stage: Told) -> bool {
        let first = self.told.get() < stage;
        if first {
            self.told.set(stage);
        }
        first
    }
}

/// The sessions of a run whose end was not told yet, also those that nobody hears any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Untold(Rc<RefCell<BTreeMap<StreamId, Rc<News>>>>);

impl Untold {
    /// One more.
    pub(crate) fn keep(&self, news: &Rc<News>) {
        let mut untold = self.0.borrow_mut();
        untold.insert(news.id, news.clone());
        if untold.len() > KEPT {
            // First those that never ran: of their end no guest tells when their client has gone.
            let idle = untold.values().find(|news| news.told.get() < Told::Started);
            let oldest = idle.or_else(|| untold.values().next()).map(|news| news.id);
            oldest.and_then(|id| untold.remove(&id));
        }
    }

    /// The guest says that one has ended.
    pub(crate) fn hear(&self, id: StreamId, end: ProcessReply) {
        let end = match end {
            ProcessReply::Exited { status } => SessionEnd::Exited { status },
            ProcessReply::TimedOut => SessionEnd::TimedOut,
            // That is no end.
            _ => return,
        };
        let news = self.0.borrow_mut().remove(&id);
        news.inspect(|news| news.ended(&end));
    }

    /// Its end is told, or need not be.
    pub(crate) fn forget(&self, news: &News) {
        self.0.borrow_mut().remove(&news.id);
    }
}
