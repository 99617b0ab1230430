//! The host's end of a channel once the guest was greeted: streams that the shim's tasks await on.
//!
//! One driver task moves bytes between the socket and the [`Mux`]; the streams wait for its word.
//! All of it lives on the shim's one thread, so a borrow never crosses an await.

mod socket;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::Poll;

use boxwood_state::metrics::{Counter, Counters};
use boxwood_wire::frame::{self, Decoder, Frame, FrameError, Kind};
use boxwood_wire::mux::{Event, Limits, Mux, MuxError, Role, StreamId};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Notify};

use crate::guest_time::{Cause, GuestTime};
use crate::link::socket::Socket;

/// Streams at the same time: main, control and many sessions. A guest takes no more.
const STREAMS: usize = 256;
/// What one read takes from the socket, in bytes.
const READ: usize = 64 * 1024;
/// Reads in a row before writing and the other tasks get their turn.
const ROUNDS: usize = 8;

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

/// How much a socket had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    All,
    /// There may be more.
    More,
}

#[derive(Debug, Default)]
struct Bell {
    readable: Notify,
    writable: Notify,
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

/// What may be sent: first these bytes, which are outside the streams, then so many of the streams'.
#[derive(Debug)]
struct Cork {
    first: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Everything,
    /// So many bytes and no more.
    Only(usize),
}

impl Default for Cork {
    fn default() -> Self {
        Cork { first: Vec::new(), then: Then::Everything }
    }
}

impl Cork {
    /// What may be sent of a stream's output.
    fn allowed<'a>(&self, output: &'a [u8]) -> &'a [u8] {
        match self.then {
            Then::Everything => output,
            Then::Only(count) => &output[..output.len().min(count)],
        }
    }
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

/// One stream of a link, from the host's side.
#[derive(Debug)]
pub(crate) struct Stream {
    writer: StreamWriter,
    decoder: Decoder,
}

/// The sending half of a stream; it may be shared.
#[derive(Clone, Debug)]
pub(crate) struct StreamWriter {
    id: StreamId,
    bell: Rc<Bell>,
    shared: Rc<Shared>,
    /// Held while a frame is sent, so that those of several senders never mix.
    turn: Rc<Mutex<()>>,
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

    /// Whether there is something that may be sent.
    fn has_output(&self) -> bool {
        let cork = self.shared.cork.borrow();
        !cork.first.is_empty() || !cork.allowed(self.shared.mux.borrow().output()).is_empty()
    }

    /// Moves bytes until the channel ends. `early` is what came behind the greeting.
    pub(crate) async fn run(self, socket: UnixStream, early: Vec<u8>) {
        let moved = async {
            let socket = socket.into_std().and_then(|socket| Socket::over(socket.into()));
            self.move_bytes(socket.map_err(failed)?, &early).await
        };
        let fault = match moved.await {
            Ok(never) => match never {},
            Err(fault) => fault,
        };
        self.fail(fault);
    }

    /// Moves bytes as long as `work` takes, and not one longer.
    pub(crate) async fn during<T>(
        &self,
        socket: &UnixStream,
        early: Vec<u8>,
        work: impl Future<Output = T>,
    ) -> Result<T, LinkError> {
        let handle = socket.as_fd().try_clone_to_owned().map_err(failed)?;
        let socket = Socket::over(handle).map_err(failed)?;
        tokio::select! {
            biased;
            done = work => Ok(done),
            fault = self.move_bytes(socket, &early) => match fault {
                Ok(never) => match never {},
                Err(fault) => Err(fault),
            },
        }
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

    async fn move_bytes(
        &self,
        mut socket: Socket,
        early: &[u8],
    ) -> Result<std::convert::Infallible, LinkError> {
        self.receive(early)?;
        let mut buffer = vec![0; READ];
        loop {
            self.send(&mut socket)?;
            tokio::select! {
                biased;
                ready = socket.ready() => ready.map_err(failed)?,
                () = self.shared.output.notified() => continue,
            }
            if self.take_in(&socket, &mut buffer)? == Came::More {
                // A guest that says more than can be heard keeps nobody else from being heard.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Sends what there is, as much as the socket takes.
    fn send(&self, socket: &mut Socket) -> Result<(), LinkError> {
        if !self.has_output() {
            return Ok(());
        }
        while self.has_output() {
            let mut mux = self.shared.mux.borrow_mut();
            let mut cork = self.shared.cork.borrow_mut();
            let first = !cork.first.is_empty();
            let bytes = if first { &cork.first } else { cork.allowed(mux.output()) };
            let count = match socket.write(bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(failed(error)),
            };
            if first {
                cork.first.drain(..count);
                continue;
            }
            mux.sent(count);
            if let Then::Only(left) = &mut cork.then {
                *left -= count;
            }
        }
        if !self.has_output() {
            socket.is_written();
        }
        self.tell();
        Ok(())
    }

    fn take_in(&self, socket: &Socket, buffer: &mut [u8]) -> Result<Came, LinkError> {
        for _ in 0..ROUNDS {
            match socket.read(buffer) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(count) => self.receive(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Came::All),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(Came::More)
    }

    fn receive(&self, bytes: &[u8]) -> Result<(), LinkError> {
        let result = self.shared.mux.borrow_mut().receive(bytes);
        self.tell();
        result.map_err(|error| LinkError::Protocol(Rc::new(error)))
    }

    fn tell(&self) {
        if self.ring() {
            self.hand_out();
        }
    }

    /// Wakes who waits for what has happened. Says whether the stream that is heard has something to say.
    fn ring(&self) -> bool {
        let heard = self.shared.heard.borrow().as_ref().map(|heard| heard.stream.id());
        let mut news = false;
        let mut mux = self.shared.mux.borrow_mut();
        let bells = self.shared.bells.borrow();
        while let Some(event) = mux.next_event() {
            match event {
                Event::Readable(id) if heard == Some(id) => {
                    news = true;
                    None
                }
                Event::Reset(id) if heard == Some(id) => {
                    news = true;
                    bells.get(&id).inspect(|bell| bell.writable.notify_one())
                }
                Event::Readable(id) => bells.get(&id).inspect(|b| b.readable.notify_one()),
                Event::Writable(id) => bells.get(&id).inspect(|b| b.writable.notify_one()),
                Event::Reset(id) => bells.get(&id).inspect(|b| {
                    b.readable.notify_one();
                    b.writable.notify_one();
                }),
                // A guest that opens a stream breaks the protocol: the mux has said so.
                Event::Opened(_) => None,
            };
        }
        news
    }
}

fn failed(error: io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => LinkError::Closed,
        _ => LinkError::Socket(Rc::new(error)),
    }
}

impl Stream {
    /// The sending half.
    pub(crate) fn writer(&self) -> StreamWriter {
        self.writer.clone()
    }

    /// The time that its guest has had.
    pub(crate) fn time(&self) -> &GuestTime {
        &self.writer.shared.time
    }

    /// Its number on the link.
    pub(crate) fn id(&self) -> StreamId {
        self.writer.id
    }

    /// Ends it in both directions at once; the guest hears that.
    pub(crate) fn abort(self) {
        self.writer.shared.mux.borrow_mut().reset(self.writer.id);
        // The drop does the rest.
    }

    /// The next frame; `None` when the guest half-closed the stream.
    ///
    /// # Errors
    /// When the stream or its link ended before its time.
    pub(crate) async fn next_frame(&mut self) -> Result<Option<Frame>, LinkError> {
        loop {
            match self.poll_frame() {
                Poll::Ready(frame) => return frame,
                Poll::Pending => self.writer.bell.readable.notified().await,
            }
        }
    }

    /// The same, if it has come.
    fn poll_frame(&mut self) -> Poll<Result<Option<Frame>, LinkError>> {
        let StreamWriter { id, shared, .. } = &self.writer;
        loop {
            let frame = self.decoder.next_frame();
            if let Some(frame) = frame.map_err(|error| LinkError::Frame(Rc::new(error)))? {
                if matches!(frame.kind, Kind::Stdout | Kind::Stderr) {
                    shared.counters.add(Counter::BytesOut, frame.payload.len() as u64);
                }
                return Poll::Ready(Ok(Some(frame)));
            }
            let (came, open, finished, granted) = {
                let mut mux = shared.mux.borrow_mut();
                let before = mux.unsent();
                let bytes = mux.peek(*id);
                let count = bytes.len().min(READ);
                self.decoder.push(&bytes[..count]);
                mux.take(*id, count);
                (count > 0, mux.is_open(*id), mux.is_finished(*id), mux.unsent() > before)
            };
            if granted {
                // The guest has a new window, which has to be sent.
                shared.output.notify_one();
            }
            if came {
                continue;
            } else if !open {
                return Poll::Ready(Err(LinkError::Aborted));
            } else if finished {
                return Poll::Ready(Ok(None));
            } else if let Some(fault) = shared.fault.borrow().clone() {
                return Poll::Ready(Err(fault));
            } else {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let StreamWriter { id, shared, .. } = &self.writer;
        shared.mux.borrow_mut().close(*id);
        shared.bells.borrow_mut().remove(id);
        shared.output.notify_one();
    }
}

impl StreamWriter {
    /// The time that its guest has had.
    pub(crate) fn time(&self) -> &GuestTime {
        &self.shared.time
    }

    /// Queues a frame with a value: for the few small ones that fit a fresh window.
    ///
    /// # Errors
    /// When the value is too large for a frame or the stream has ended.
    pub(crate) async fn send_value<T: serde::Serialize>(&self, value: &T) -> Result<(), LinkError> {
        let bytes = frame::value(Kind::Request, value);
        self.send_bytes(&bytes.map_err(|error| LinkError::Frame(Rc::new(error)))?).await
    }

    /// The same without waiting: whether there was room, and nobody whose turn is before.
    pub(crate) fn send_value_now<T: serde::Serialize>(&self, value: &T) -> bool {
        let (Ok(_turn), Ok(bytes)) = (self.turn.try_lock(), frame::value(Kind::Request, value))
        else {
            return false;
        };
        let mut mux = self.shared.mux.borrow_mut();
        let goes = self.shared.fault.borrow().is_none() && mux.room(self.id) >= bytes.len();
        if goes {
            mux.write(self.id, &bytes);
            self.shared.output.notify_one();
        }
        goes
    }

    /// Sends a frame of bytes.
    ///
    /// # Errors
    /// When the stream has ended.
    pub(crate) async fn send_frame(&self, kind: Kind, payload: &[u8]) -> Result<(), LinkError> {
        let mut bytes = frame::header(kind, payload.len()).to_vec();
        bytes.extend_from_slice(payload);
        self.send_bytes(&bytes).await?;
        self.shared.counters.add(Counter::BytesIn, payload.len() as u64);
        Ok(())
    }

    async fn send_bytes(&self, mut bytes: &[u8]) -> Result<(), LinkError> {
        let _turn = self.turn.lock().await;
        loop {
            if let Some(fault) = self.shared.fault.borrow().clone() {
                return Err(fault);
            }
            let (count, open) = {
                let mut mux = self.shared.mux.borrow_mut();
                (mux.write(self.id, bytes), mux.is_open(self.id))
            };
            if count > 0 {
                self.shared.output.notify_one();
            }
            bytes = &bytes[count..];
            if bytes.is_empty() {
                return Ok(());
            }
            if !open {
                return Err(LinkError::Aborted);
            }
            self.bell.writable.notified().await;
        }
    }
}

#[cfg(test)]
mod tests;
