//! One stream of a [`Link`](super::Link): frames in, frames out. What the shim's tasks hold.

use std::rc::Rc;
use std::task::Poll;

use boxwood_state::metrics::Counter;
use boxwood_wire::frame::{self, Decoder, Frame, Kind};
use boxwood_wire::mux::StreamId;
use tokio::sync::{Mutex, Notify};

use super::{LinkError, READ, Shared};
use crate::guest_time::GuestTime;

/// Rung for who waits for a stream.
#[derive(Debug, Default)]
pub(super) struct Bell {
    pub(super) readable: Notify,
    pub(super) writable: Notify,
}

/// One stream of a link, from the host's side.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) writer: StreamWriter,
    pub(super) decoder: Decoder,
}

/// The sending half of a stream; it may be shared.
#[derive(Clone, Debug)]
pub(crate) struct StreamWriter {
    pub(super) id: StreamId,
    pub(super) bell: Rc<Bell>,
    pub(super) shared: Rc<Shared>,
    /// Held while a frame is sent, so that those of several senders never mix.
    pub(super) turn: Rc<Mutex<()>>,
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
    pub(super) fn poll_frame(&mut self) -> Poll<Result<Option<Frame>, LinkError>> {
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
