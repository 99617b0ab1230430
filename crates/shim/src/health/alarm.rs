//! The one timer of a check: it rings when the next probe is due, and when one has taken too long.
//!
//! A descriptor of the kernel's (timerfd_create(2)): setting it costs one call, and it wakes once, when it
//! rings. A timer of the event loop's costs two turns of the loop to set and wakes on its way.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    /// When it rings.
    due: Cell<Instant>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let timer = sys::watch(timer, Interest::READABLE)?;
        Ok(Alarm { timer, due: Cell::new(Instant::now()) })
    }

    /// Rings once, after this long.
    pub(super) async fn after(&self, wait: Duration) -> io::Result<()> {
        self.set(wait)?;
        self.rings().await
    }

    /// Lets it ring once, after this long. What it was set to before is forgotten.
    pub(super) fn set(&self, wait: Duration) -> io::Result<()> {
        let due = Instant::now() + wait;
        let soon = wait.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(soon.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: soon.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.due.set(due);
        Ok(())
    }

    /// When it rings, which may be put off meanwhile.
    pub(super) async fn rings(&self) -> io::Result<()> {
        loop {
            self.timer.readable().await?.clear_ready();
            // What rang and was not heard is no more than a hint, so the clock is looked at, too.
            if Instant::now() >= self.due.get() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "local")]
    async fn h9_an_alarm_rings_after_its_time_also_when_an_earlier_one_was_not_heard() {
        let alarm = Alarm::new().unwrap();
        let began = Instant::now();
        // It rings while nobody listens: the other is ready first.
        tokio::select! {
            biased;
            () = async { std::thread::sleep(Duration::from_millis(20)) } => {}
            _ = alarm.after(Duration::from_millis(1)) => unreachable!("the other was first"),
        }
        drop(tokio::time::timeout(Duration::ZERO, alarm.after(Duration::from_millis(1))).await);
        std::thread::sleep(Duration::from_millis(20));
        tokio::task::yield_now().await;
        let again = Instant::now();
        alarm.after(Duration::from_millis(50)).await.unwrap();
        assert!(again.elapsed() >= Duration::from_millis(50), "{:?}", again.elapsed());
        alarm.after(Duration::ZERO).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
