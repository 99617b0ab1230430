//! Tells the world what happens to the box: appends to the home's journal, after it was written down. Used
//! wherever the shim makes a transition.

use std::cell::RefCell;
use std::rc::Rc;

use boxwood_state::events::Action;
use boxwood_state::{BoxDir, BoxSpec, Home};

/// Who tells it.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    home: Home,
    dir: Rc<BoxDir>,
    /// What the box was when that was last read.
    spec: Rc<RefCell<BoxSpec>>,
}

impl Announcer {
    /// Of this box.
    pub(crate) fn new(home: &Home, dir: BoxDir, spec: BoxSpec) -> Self {
        Announcer { home: home.clone(), dir: Rc::new(dir), spec: Rc::new(RefCell::new(spec)) }
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
