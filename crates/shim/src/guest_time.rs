//! The time that a box has had: it stands while its main is awaited, while the box is paused, and while it is
//! captured. Kept by its [link](crate::link), told by the [supervisor](crate::supervisor), and what a guest may
//! take is measured by it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Why a box has no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Main does not run yet.
    Awaited,
    /// It is paused.
    Paused,
    /// It is captured, or about to be.
    Captured,
}

#[derive(Clone, Debug)]
struct State {
    ran: Duration,
    /// Since when it has gone on, if it does.
    since: Option<Instant>,
    causes: Vec<Cause>,
}

/// The clock.
#[derive(Debug)]
pub(crate) struct GuestTime(watch::Sender<State>);

impl GuestTime {
    /// Nothing until main runs.
    pub(crate) fn new() -> Self {
        let (ran, causes) = (Duration::ZERO, vec![Cause::Awaited]);
        GuestTime(watch::Sender::new(State { ran, since: None, causes }))
    }

    /// It stands, for this cause, until that is over.
    pub(crate) fn stand(&self, cause: Cause) {
        self.0.send_modify(|state| {
            if let Some(since) = state.since.take() {
                state.ran += since.elapsed();
            }
            if !state.causes.contains(&cause) {
                state.causes.push(cause);
            }
        });
    }

    /// This cause is over.
    pub(crate) fn go_on(&self, cause: Cause) {
        self.0.send_modify(|state| {
            state.causes.retain(|other| *other != cause);
            if state.causes.is_empty() {
                state.since.get_or_insert_with(Instant::now);
            }
        });
    }

    /// How much it has been so far.
    pub(crate) fn now(&self) -> Duration {
        self.0.borrow().now()
    }

    /// Returns when it has been that much.
    pub(crate) async fn reaches(&self, time: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            let state = changes.borrow_and_update().clone();
            let left = time.saturating_sub(state.now());
            if left.is_zero() {
                return;
            }
            let elapses = async {
                match state.since.and_then(|_| Instant::now().checked_add(left)) {
                    Some(then) => tokio::time::sleep_until(then).await,
                    // It stands, or nobody lives that long.
                    None => std::future::pending().await,
                }
            };
            // The sender of this watch is ours: it can't go before we do.
            tokio::select! {
                () = elapses => {}
                _ = changes.changed() => {}
            }
        }
    }
}

impl State {
    fn now(&self) -> Duration {
        self.ran + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn h5_a_box_has_time_only_while_it_runs() {
        let time = GuestTime::new();
        let began = Instant::now();
        let other = async {
            tokio::time::sleep(seconds(7)).await;
            assert_eq!(time.now(), seconds(0), "main is awaited");
            time.go_on(Cause::Awaited);
            tokio::time::sleep(seconds(3)).await;
            // For two reasons, so that the end of one is not enough.
            time.stand(Cause::Captured);
            time.stand(Cause::Paused);
            tokio::time::sleep(seconds(100)).await;
            time.go_on(Cause::Paused);
            tokio::time::sleep(seconds(100)).await;
            assert_eq!(time.now(), seconds(3));
            time.go_on(Cause::Captured);
        };
        tokio::join!(time.reaches(seconds(5)), other);
        assert_eq!((began.elapsed(), time.now()), (seconds(212), seconds(5)));
        time.reaches(seconds(5)).await;
        let never = tokio::time::timeout(seconds(1 << 30), time.reaches(Duration::MAX));
        assert!(never.await.is_err());
    }
}
