//! Tells the world what happens to the box: appends to the home's journal, after it was written down, and
//! counts. Used wherever the shim makes a transition.

use std::cell::RefCell;
use std::rc::Rc;

use boxwood_state::atomic::Known;
use boxwood_state::events::{Action, Appender, Event};
use boxwood_state::metrics::Counters;
use boxwood_state::{BoxDir, BoxSpec, Home};

/// Who tells it.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    home: Home,
    dir: Rc<BoxDir>,
    telling: Rc<RefCell<Telling>>,
    /// What is counted.
    pub(crate) counters: Rc<Counters>,
}

/// What is kept from one piece of news to the next: a command in the box waits for two of them.
#[derive(Debug)]
struct Telling {
    /// What the box was when that was last read.
    spec: BoxSpec,
    known: Known,
    journal: Option<Appender>,
}

impl Announcer {
    /// Of this box.
    pub(crate) fn new(home: &Home, dir: BoxDir, spec: BoxSpec) -> Self {
        let counters = Rc::new(dir.counters());
        let telling = Telling { spec, known: Known::default(), journal: None };
        let (dir, telling) = (Rc::new(dir), Rc::new(RefCell::new(telling)));
        Announcer { home: home.clone(), dir, telling, counters }
    }

    /// Looks what the box is called now: it may be renamed at any time.
    pub(crate) fn look(&self) {
        self.telling.borrow_mut().look(&self.dir);
    }

    /// This has happened to it. It is news: when it can't be written, what has happened has happened.
    pub(crate) fn say(&self, action: &Action) {
        let mut telling = self.telling.borrow_mut();
        telling.look(&self.dir);
        let event = Event::now(&telling.spec, action);
        let appended = telling.journal.as_mut().map(|journal| journal.append(&event));
        if !matches!(appended, Some(Ok(()))) {
            // It was not opened yet, or its directory has gone meanwhile.
            telling.journal = self.home.journal().ok().map(|journal| journal.appender());
            let _ = telling.journal.as_mut().map(|journal| journal.append(&event));
        }
    }
}

impl Telling {
    fn look(&mut self, dir: &BoxDir) {
        if let Ok(Some(spec)) = dir.changed_spec(&mut self.known) {
            self.spec = spec;
        }
    }
}
