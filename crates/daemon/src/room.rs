//! Room for clients: so many at the same time. When there is no more, the one that has asked for nothing for the
//! longest time has to go, so that silent ones keep nobody out. Used by `serve`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Room for so many.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    seats: Arc<Semaphore>,
    silent: Arc<Silent>,
}

/// Those that ask for nothing, in the order in which they fell silent.
#[derive(Debug, Default)]
struct Silent {
    order: Mutex<Order>,
    one_more: Notify,
}

#[derive(Debug, Default)]
struct Order {
    next: u64,
    clients: BTreeMap<u64, CancellationToken>,
}

/// One client's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    silent: Arc<Silent>,
    /// Its number among the silent ones, if it is one.
    number: Mutex<Option<u64>>,
    /// Cancelled when it has to go.
    pub(crate) leave: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// A request that is being answered. Dropped, its client is silent again.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Seat>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    pub(crate) fn new(count: usize) -> Room {
        Room { seats: Arc::new(Semaphore::new(count)), silent: Arc::default() }
    }

    /// A seat for one who has come: a free one, or that of who was silent for the longest time. Waits while
    /// all are busy.
    pub(crate) async fn seat(&self) -> Option<Arc<Seat>> {
        if self.seats.available_permits() == 0 {
            self.silent.send_one_away();
        }
        let permit = loop {
            tokio::select! {
                biased;
                permit = Arc::clone(&self.seats).acquire_owned() => break permit.ok()?,
                () = self.silent.one_more.notified() => self.silent.send_one_away(),
            }
        };
        let seat = Seat {
            silent: Arc::clone(&self.silent),
            number: Mutex::default(),
            leave: CancellationToken::new(),
            _permit: permit,
        };
        seat.rest();
        Some(Arc::new(seat))
    }
}

impl Silent {
    fn send_one_away(&self) {
        if let Some((_, leave)) = locked(&self.order).clients.pop_first() {
            leave.cancel();
        }
    }
}

impl Seat {
    /// It has asked for something; `None` when it has been sent away before that.
    pub(crate) fn asks(self: &Arc<Self>) -> Option<Busy> {
        let number = locked(&self.number).take()?;
        locked(&self.silent.order).clients.remove(&number)?;
        Some(Busy(Arc::clone(self)))
    }

    fn rest(&self) {
        let mut order = locked(&self.silent.order);
        let number = order.next;
        order.next += 1;
        order.clients.insert(number, self.leave.clone());
        drop(order);
        *locked(&self.number) = Some(number);
        // Heard only by who waits for a seat right now.
        self.silent.one_more.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(number) = locked(&self.number).take() {
            locked(&self.silent.order).clients.remove(&number);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// A body, and that its client is busy as long as it is sent.
#[derive(Debug)]
pub(crate) struct Held {
    body: Body,
    _busy: Busy,
}

impl Held {
    pub(crate) fn new(body: Body, busy: Busy) -> Held {
        Held { body, _busy: busy }
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn who_is_silent_for_the_longest_time_makes_room_and_who_is_busy_stays() {
        let room = Room::new(3);
        let (first, second) = (room.seat().await.unwrap(), room.seat().await.unwrap());
        let third = room.seat().await.unwrap();
        let busy = first.asks().unwrap();
        assert!(first.asks().is_none(), "one request at a time");
        let mut fourth = tokio::spawn({
            let room = room.clone();
            async move { room.seat().await.unwrap() }
        });
        second.leave.cancelled().await;
        assert!(second.asks().is_none(), "it comes too late");
        assert!(!first.leave.is_cancelled() && !third.leave.is_cancelled());
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut fourth).await.is_err());
        drop(second);
        let fourth = fourth.await.unwrap();
        let (_third, _fourth) = (third.asks().unwrap(), fourth.asks().unwrap());
        // All are busy: who comes waits until one is not.
        let fifth = tokio::spawn({
            let room = room.clone();
            async move { room.seat().await.unwrap() }
        });
        tokio::task::yield_now().await;
        drop(busy);
        tokio::time::timeout(Duration::from_secs(5), first.leave.cancelled()).await.unwrap();
        drop(first);
        tokio::time::timeout(Duration::from_secs(5), fifth).await.unwrap().unwrap();
    }
}
