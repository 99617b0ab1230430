//! The task that moves a [`Link`]'s bytes between its socket and its streams. Begun by `conversation` and `warm`,
//! once a guest was greeted.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use boxwood_wire::mux::Event;
use tokio::net::UnixStream;

use super::cork::Then;
use super::socket::Socket;
use super::{Link, LinkError, READ};

/// Reads in a row before writing and the other tasks get their turn.
pub(super) const ROUNDS: usize = 8;

/// How much a socket had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    All,
    /// There may be more.
    More,
}

impl Link {
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
