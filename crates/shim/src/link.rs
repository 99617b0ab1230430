//! The host's end of a channel once the guest was greeted: streams that the shim's tasks await on.
//!
//! One driver task (`drive`) moves bytes between the socket and the [`Mux`]; the streams wait for its word.
//! All of it lives on the shim's one thread, so a borrow never crosses an await.

mod cork;
mod drive;
mod socket;
mod stream;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::Poll;

use boxwood_state::metrics::Counters;
use boxwood_wire::frame::{Decoder, Frame, FrameError};
use boxwood_wire::mux::{Limits, Mux, MuxError, Role, StreamId};
use tokio::sync::Notify;

use crate::guest_time::{Cause, GuestTime};
use cork::{Cork, Then};
use stream::Bell;
pub(crate) use stream::{Stream, StreamWriter};

/// Streams at the same time: main, control and many sessions. A guest takes no more.
const STREAMS: usize = 256;
/// What one read takes from the socket or a stream, in bytes.
const READ: usize = 64 * 1024;

/// Why a link or one of its streams ended before its time.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The channel's other end is closed: QEMU has gone, or the guest let go of the port.
    #[error("the guest's channel was closed")]
    Closed,
    /// The socket failed.
    #[error("the guest's channel failed")]
    Socket(#[source] Rc<io::Error>),
    /// The guest broke the protocol.
    #[error("the guest broke the protocol of its channel")]
    Protocol(#[source] Rc<MuxError>),
    /// A frame is none.
    #[error("the guest sent a frame that is none")]
    Frame(#[source] Rc<FrameError>),
    /// The guest aborted this stream.
    #[error("the guest aborted a stream")]
    Aborted,
}

/// What hears each frame of a stream, or its end, until it has heard enough.
pub(crate) type Ear = Box<dyn FnMut(Result<Option<Frame>, LinkError>) -> ControlFlow<()>>;

/// A stream that is heard in the turn that reads it: no task has to wake for it.
struct Heard {
    stream: Stream,
    ear: Ear,
}

struct Shared {
    mux: RefCell<Mux>,
    bells: RefCell<BTreeMap<StreamId, Rc<Bell>>>,
    heard: RefCell<Option<Heard>>,
    /// Rung when there is something to send.
    output: Notify,
    cork: RefCell<Cork>,
    fault: RefCell<Option<LinkError>>,
    /// What goes over it is counted.
    counters: Rc<Counters>,
    time: GuestTime,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("mux", &self.mux).finish_non_exhaustive()
    }
}

/// A connection to a guest.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    shared: Rc<Shared>,
}

impl Link {
    /// A link whose streams can be opened and written to; nothing moves before
    /// [`run`](Self::run).
    pub(crate) fn new(counters: Rc<Counters>) -> Self {
        Link {
            shared: Rc::new(Shared {
                mux: RefCell::new(Mux::new(Role::Host, Limits { streams: STREAMS })),
                bells: RefCell::default(),
                heard: RefCell::default(),
                output: Notify::new(),
                cork: RefCell::default(),
                fault: RefCell::default(),
                counters,
                time: GuestTime::new(),
            }),
        }
    }

    /// Where what goes over it is counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The time that its guest has had.
    pub(crate) fn time(&self) -> &GuestTime {
        &self.shared.time
    }

    /// Opens a stream to a service.
    ///
    /// # Errors
    /// When the link has ended or has too many streams.
    pub(crate) fn open(&self, port: u32) -> Result<Stream, LinkError> {
        if let Some(fault) = self.shared.fault.borrow().clone() {
            return Err(fault);
        }
        let mut mux = self.shared.mux.borrow_mut();
        let id = mux.open().map_err(|error| LinkError::Protocol(Rc::new(error)))?;
        mux.write_first(id, &port.to_le_bytes());
        drop(mux);
        let bell = Rc::new(Bell::default());
        self.shared.bells.borrow_mut().insert(id, bell.clone());
        // Not sent before the first frame is: the guest then wakes once for both.
        let writer = StreamWriter { id, bell, shared: self.shared.clone(), turn: Rc::default() };
        Ok(Stream { writer, decoder: Decoder::new() })
    }

    /// Hears a stream from now on, in the turn of the link. There is one such stream.
    pub(crate) fn hear(&self, stream: Stream, ear: Ear) {
        self.shared.heard.replace(Some(Heard { stream, ear }));
        self.hand_out();
    }

    /// Lets what hears a stream have what came on it.
    fn hand_out(&self) {
        // It may do anything with the link meanwhile.
        let Some(Heard { mut stream, mut ear }) = self.shared.heard.take() else { return };
        while let Poll::Ready(frame) = stream.poll_frame() {
            if ear(frame).is_break() {
                return;
            }
        }
        self.shared.heard.replace(Some(Heard { stream, ear }));
    }

    /// Takes what waits to be sent, so that it can follow the greeting in one write.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        let mut mux = self.shared.mux.borrow_mut();
        let mut bytes = Vec::new();
        while !mux.output().is_empty() {
            let count = mux.output().len();
            bytes.extend_from_slice(mux.output());
            mux.sent(count);
        }
        bytes
    }

    /// From now on nothing is sent but what waits to be sent already.
    pub(crate) fn cork(&self) {
        let waiting = self.shared.mux.borrow().unsent();
        self.shared.cork.borrow_mut().then = Then::Only(waiting);
        self.shared.time.stand(Cause::Captured);
    }

    /// Sends again, this first.
    pub(crate) fn uncork(&self, first: Vec<u8>) {
        let mut cork = self.shared.cork.borrow_mut();
        cork.first.extend(first);
        cork.then = Then::Everything;
        drop(cork);
        self.shared.time.go_on(Cause::Captured);
        self.shared.output.notify_one();
    }

    /// Whether nothing is sent.
    pub(crate) fn is_corked(&self) -> bool {
        self.shared.cork.borrow().then != Then::Everything
    }

    /// Ends the link: its VM has ended. What came before can still be read.
    pub(crate) fn end(&self) {
        self.fail(LinkError::Closed);
    }

    fn fail(&self, fault: LinkError) {
        self.shared.fault.borrow_mut().get_or_insert(fault);
        for bell in self.shared.bells.borrow().values() {
            bell.readable.notify_one();
            bell.writable.notify_one();
        }
        self.hand_out();
    }
}

#[cfg(test)]
mod tests;
