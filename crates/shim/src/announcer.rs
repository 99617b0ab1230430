//! Tells the world what happens to the box: appends to the home's journal, after it was written down, and
//! counts. Used wherever the shim makes a transition.

use std::cell::RefCell;
use std::rc::Rc;

use boxwood_state::events::Action;
use boxwood_state::metrics::Counters;
use boxwood_state::{BoxDir, BoxSpec, Home};

/// Who tells it.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    home: Home,
    dir: Rc<BoxDir>,
    /// What the box was when that was last read.
    spec: Rc<RefCell<BoxSpec>>,
    /// What is counted.
    pub(crate) counters: Rc<Counters>,
}

impl Announcer {
    /// Of this box.
    pub(crate) fn new(home: &Home, dir: BoxDir, spec: BoxSpec) -> Self {
        let counters = Rc::new(dir.counters());
        let (dir, spec) = (Rc::new(dir), Rc::new(RefCell::new(spec)));
        Announcer { home: home.clone(), dir, spec, counters }
    }

    /// Looks what the box is called now: it may be renamed at any time.
    pub(crate) fn look(&self) {
        if let Ok(spec) = self.dir.spec() {
            self.spec.replace(spec);
        }
    }

    /// This has happened to it.
    pub(crate) fn say(&self, action: &Action) {
        self.look();
        self.home.announce(&self.spec.borrow(), action);
    }
}
