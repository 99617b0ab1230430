//! The one place where PID 1 waits: an epoll set, edge-triggered throughout, so that nothing has to
//! be taken out of it and put back. Called by `guest` and by whoever opens a descriptor for it.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::fault::{Fault, Step};

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The channel to the shim.
    Port,
    /// A child has ended.
    Children,
    /// A pipe of the session in this slot.
    Pipe(usize, Pipe),
}

/// Which of a session's pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pipe {
    /// Its standard input has room.
    Stdin,
    /// Its standard output has something.
    Stdout,
    /// Its standard error has something.
    Stderr,
}

impl Source {
    fn token(self) -> u64 {
        match self {
            Source::Port => 0,
            Source::Children => 1,
            Source::Pipe(slot, pipe) => (slot as u64 + 1) << 2 | pipe as u64,
        }
    }

    fn from_token(token: u64) -> Self {
        match (token >> 2, token & 3) {
            (0, 0) => Source::Port,
            (0, _) => Source::Children,
            (slot, 0) => Source::Pipe(slot as usize - 1, Pipe::Stdin),
            (slot, 1) => Source::Pipe(slot as usize - 1, Pipe::Stdout),
            (slot, _) => Source::Pipe(slot as usize - 1, Pipe::Stderr),
        }
    }
}

/// The set.
pub(crate) struct Poll {
    epoll: OwnedFd,
}

/// How many events one wait takes; what is left over comes with the next.
const BATCH: usize = 16;

impl Poll {
    /// An empty set.
    pub(crate) fn new() -> Result<Self, Fault> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).step("create an epoll set")?;
        Ok(Poll { epoll })
    }

    /// Watches `fd` in both directions. It leaves the set when it is closed.
    pub(crate) fn watch(&self, fd: impl AsFd, source: Source) -> Result<(), Fault> {
        let data = EventData::new_u64(source.token());
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, fd, data, flags).step("watch a descriptor")
    }

    /// Waits for something to become ready, or until `timeout` has passed.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<Ready, Fault> {
        let mut events = [MaybeUninit::uninit(); BATCH];
        let timeout = timeout.map(epoll_timeout);
        let mut ready = Ready { sources: [Source::Port; BATCH], count: 0 };
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => {
                for (place, event) in ready.sources.iter_mut().zip(events.iter()) {
                    *place = Source::from_token(event.data.u64());
                }
                ready.count = events.len();
                Ok(ready)
            }
            Err(Errno::INTR) => Ok(ready),
            Err(errno) => Err(errno).step("wait for events"),
        }
    }
}

/// Rounded up to the milliseconds that epoll counts in: waiting is never too short, or a deadline
/// would be asked for again and again.
fn epoll_timeout(timeout: Duration) -> rustix::event::Timespec {
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(1_000_000_000) as i64;
    rustix::event::Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
}

/// What one wait found.
pub(crate) struct Ready {
    sources: [Source; BATCH],
    count: usize,
}

impl Ready {
    /// Whether the time was up before anything became ready.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The sources, each once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Source> {
        self.sources[..self.count].iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_their_source() {
        let mut sources = vec![Source::Port, Source::Children];
        for slot in [0, 1, 255] {
            sources
                .extend([Pipe::Stdin, Pipe::Stdout, Pipe::Stderr].map(|p| Source::Pipe(slot, p)));
        }
        for source in sources {
            assert_eq!(Source::from_token(source.token()), source);
        }
    }

    #[test]
    fn a_deadline_is_never_waited_for_too_short() {
        let timeout = epoll_timeout(Duration::from_nanos(1));
        assert_eq!((timeout.tv_sec, timeout.tv_nsec), (0, 1_000_000));
        assert_eq!(epoll_timeout(Duration::ZERO).tv_nsec, 0);
        assert_eq!(epoll_timeout(Duration::MAX).tv_sec, 1_000_000);
    }
}
