//! What can be done for a session before it is asked for, and after it was told: pipes and a cgroup are
//! made ahead, what is left of one that is over is put away later. Part of `guest`, which does this when
//! nothing else is to be done, so that no session waits for it.

use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::fault::Fault;
use crate::guest::{Guest, MAIN_SLOT, Machine, Main};
use crate::session::Session;
use crate::session::stdio::Pipes;
use crate::sessions::LIMIT;

/// Kits that are kept: as many sessions as may come at once and find everything ready.
const KITS: usize = 10;
/// The same where there is little memory: each takes some of it, and a box must boot.
const FEW_KITS: usize = 2;
/// Below this much memory there is little, in bytes.
const LITTLE: u64 = 96 << 20;
/// Sessions that are over and wait to be put away; with more it is not put off any longer.
const SPENT: usize = 16;
/// How long nothing has to happen before a kit is made beside sessions that run: longer than a short
/// command is silent, so that it does not wait for a kit that is not its own.
const QUIET: Duration = Duration::from_millis(3);

/// Everything a session needs that does not depend on what it is.
pub(crate) struct Kit {
    /// The slot its pipes are watched for.
    slot: usize,
    pub(crate) pipes: Pipes,
    pub(crate) cgroup: Cgroup,
}

impl Kit {
    /// Makes one for the session in `slot`.
    pub(crate) fn new(machine: &mut Machine, slot: usize) -> Result<Self, Fault> {
        let pipes = Pipes::new(&machine.poll, slot)?;
        let cgroup = machine.prepared.cgroups.make()?;
        Ok(Kit { slot, pipes, cgroup })
    }
}

/// What is ready, and what is to be put away.
pub(crate) struct Kits {
    ready: Vec<Kit>,
    spent: Vec<Session>,
    /// The last one could not be made: it is not tried again before a session has ended.
    stuck: bool,
    /// How many are kept.
    wanted: usize,
}

impl Kits {
    /// Makes the first ones, for the slots behind main's.
    pub(crate) fn new(machine: &mut Machine) -> Result<Self, Fault> {
        let memory = rustix::system::sysinfo();
        let memory = memory.totalram as u64 * u64::from(memory.mem_unit);
        let wanted = if memory < LITTLE { FEW_KITS } else { KITS };
        let slots = MAIN_SLOT + 1..=MAIN_SLOT + wanted;
        let ready = slots.map(|slot| Kit::new(machine, slot)).collect::<Result<_, _>>()?;
        Ok(Kits { ready, spent: Vec::new(), stuck: false, wanted })
    }
}

impl Guest {
    /// A place for a session and what is ready for it, if there is a place.
    pub(crate) fn free_slot(&mut self) -> Option<(usize, Option<Kit>)> {
        if let Some(kit) = self.kits.ready.pop() {
            return Some((kit.slot, Some(kit)));
        }
        self.bare_slot().map(|slot| (slot, None))
    }

    /// A slot that nobody has, and no kit either.
    fn bare_slot(&mut self) -> Option<usize> {
        let taken = |slot: usize| self.kits.ready.iter().any(|kit| kit.slot == slot);
        let free = |slot: usize| self.sessions.get(slot).is_none_or(Option::is_none);
        (MAIN_SLOT + 1..=LIMIT).find(|slot| free(*slot) && !taken(*slot))
    }

    /// Puts a session into its slot.
    pub(crate) fn seat(&mut self, slot: usize, session: Session) {
        if self.sessions.len() <= slot {
            self.sessions.resize_with(slot + 1, || None);
        }
        self.sessions[slot] = Some(session);
    }

    /// Empties the slot of a session that is over.
    pub(crate) fn over(&mut self, slot: usize) {
        self.kits.stuck = false;
        self.kits.spent.extend(self.sessions[slot].take());
        if self.kits.spent.len() > SPENT {
            self.put_away();
        }
    }

    /// How long the wait before [`prepare_for_more`](Self::prepare_for_more) may last, if there is
    /// something to do.
    pub(crate) fn quiet(&self) -> Option<Duration> {
        let wanted = matches!(self.main, Main::Awaited(_) | Main::Alive { .. });
        let more = wanted && !self.kits.stuck && self.kits.ready.len() < self.kits.wanted;
        if !more && self.kits.spent.is_empty() {
            return None;
        }
        let mut beside = self.sessions.iter().skip(MAIN_SLOT + 1).flatten();
        Some(beside.next().map_or(Duration::ZERO, |_| QUIET))
    }

    /// One piece of what can be done when nothing else is to be done.
    pub(crate) fn prepare_for_more(&mut self) {
        if self.quiet().is_none() {
            return;
        }
        if !self.kits.spent.is_empty() {
            return self.put_away();
        }
        let made = self.bare_slot().map(|slot| Kit::new(&mut self.machine, slot));
        match made {
            Some(Ok(kit)) => self.kits.ready.push(kit),
            // Who wants a session then hears why it can't be.
            Some(Err(_)) | None => self.kits.stuck = true,
        }
    }

    fn put_away(&mut self) {
        let spent = std::mem::take(&mut self.kits.spent);
        for cgroup in spent.into_iter().filter_map(Session::into_cgroup) {
            self.machine.prepared.cgroups.give_back(cgroup);
        }
    }
}
