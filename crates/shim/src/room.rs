//! Room for clients: so many connections at the same time. When there is no more, the one that has asked for
//! nothing for the longest time has to go, so that silent ones keep nobody out. Used by `door`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::sync::mpsc::WeakSender;

use crate::output::{Outgoing, Sender};

/// Room for so many.
#[derive(Debug)]
pub(crate) struct Room {
    size: usize,
    /// In the order in which they asked last.
    guests: RefCell<BTreeMap<u64, Guest>>,
    next: Cell<u64>,
    /// One has left, or was answered.
    stirred: Notify,
}

#[derive(Debug)]
struct Guest {
    reply: WeakSender<Outgoing>,
    standing: Standing,
    leave: Rc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It asks, and is answered.
    Asks,
    /// It goes by itself.
    Stays,
    /// It was told to go.
    Leaves,
}

impl Guest {
    /// Whether it waits for no answer, and none is on its way to it.
    fn is_silent(&self) -> bool {
        // One is that of who reads what it asks, and one is this.
        let quiet =
            |reply: Sender| reply.strong_count() <= 2 && reply.capacity() == reply.max_capacity();
        self.standing == Standing::Asks && self.reply.upgrade().is_none_or(quiet)
    }
}

/// One client's place, until it is dropped: as long as anything of its connection is open.
#[derive(Debug)]
pub(crate) struct Seat {
    room: Rc<Room>,
    number: Cell<u64>,
    leave: Rc<Notify>,
}

impl Room {
    pub(crate) fn new(size: usize) -> Rc<Room> {
        let (guests, next) = (RefCell::default(), Cell::default());
        Rc::new(Room { size, guests, next, stirred: Notify::new() })
    }

    /// How many there is room for.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Listens to nobody any more but for what was said already.
    pub(crate) fn close(&self) {
        self.guests.borrow().values().for_each(|guest| guest.leave.notify_one());
    }

    /// Waits until there is room for one more.
    pub(crate) async fn vacancy(&self) {
        while self.guests.borrow().len() >= self.size {
            self.send_one_away();
            self.stirred.notified().await;
        }
    }

    /// Makes room and waits until somebody has left or was answered; returns at once when there is nobody.
    pub(crate) async fn change(&self) -> Changed {
        if self.guests.borrow().is_empty() {
            return Changed::Nobody;
        }
        self.send_one_away();
        self.stirred.notified().await;
        Changed::Somebody
    }

    /// A place for who has come, and is answered there.
    pub(crate) fn seat(self: &Rc<Self>, reply: &Sender) -> Rc<Seat> {
        let leave = Rc::new(Notify::new());
        let number = self.number();
        let (reply, standing) = (reply.downgrade(), Standing::Asks);
        let guest = Guest { reply, standing, leave: leave.clone() };
        self.guests.borrow_mut().insert(number, guest);
        Rc::new(Seat { room: self.clone(), number: Cell::new(number), leave })
    }

    fn send_one_away(&self) {
        let mut guests = self.guests.borrow_mut();
        if guests.values().any(|guest| guest.standing == Standing::Leaves) {
            return;
        }
        if let Some(guest) = guests.values_mut().find(|guest| guest.is_silent()) {
            guest.standing = Standing::Leaves;
            guest.leave.notify_one();
        }
    }

    fn number(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        number
    }
}

/// What [`Room::change`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Somebody,
    Nobody,
}

impl Seat {
    /// Its client has asked for something: it is the last now that has to go.
    pub(crate) fn asked(&self) {
        let number = self.room.number();
        let mut guests = self.room.guests.borrow_mut();
        let Some(mut guest) = guests.remove(&self.number.replace(number)) else { return };
        if guest.standing == Standing::Leaves {
            // It asked before it heard that, and leaves when it was answered.
            guest.standing = Standing::Stays;
        }
        guests.insert(number, guest);
    }

    /// Its connection carries streams from now on.
    pub(crate) fn settle(&self) {
        if let Some(guest) = self.room.guests.borrow_mut().get_mut(&self.number.get()) {
            guest.standing = Standing::Stays;
        }
    }

    /// Its client was told something.
    pub(crate) fn answered(&self) {
        self.room.stirred.notify_one();
    }

    /// Returns when nothing more is listened to.
    pub(crate) async fn must_go(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.guests.borrow_mut().remove(&self.number.get());
        self.room.stirred.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(20);

    fn client(room: &Rc<Room>) -> (Rc<Seat>, Sender, mpsc::Receiver<Outgoing>) {
        let (reply, receiver) = mpsc::channel(4);
        (room.seat(&reply), reply, receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn h3_who_is_silent_for_the_longest_time_makes_room_and_who_waits_stays() {
        let room = Room::new(3);
        let ((first, one, _r1), (second, _two, _r2)) = (client(&room), client(&room));
        timeout(SOON, room.vacancy()).await.unwrap();
        let (third, three, _r3) = client(&room);
        // It waits for an answer, so the next is the one.
        let pending = one.clone();
        assert!(timeout(SOON, room.vacancy()).await.is_err());
        timeout(SOON, second.must_go()).await.unwrap();
        assert!(timeout(SOON, first.must_go()).await.is_err());
        assert!(timeout(SOON, third.must_go()).await.is_err(), "one is enough");
        drop(second);
        timeout(SOON, room.vacancy()).await.unwrap();
        // All wait, or carry streams: who comes waits until one was answered.
        let (fourth, _four, _r4) = client(&room);
        fourth.settle();
        let more = three.clone();
        assert!(timeout(SOON, room.vacancy()).await.is_err());
        first.asked();
        drop((pending, more));
        first.answered();
        assert!(timeout(SOON, room.vacancy()).await.is_err());
        // The first has asked for something since.
        timeout(SOON, third.must_go()).await.unwrap();
        assert!(timeout(SOON, first.must_go()).await.is_err());
    }
}
