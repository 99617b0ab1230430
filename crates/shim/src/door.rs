//! The way in for clients, from the first connection to the last: no number of them, and no want of
//! descriptors, keeps who comes next out for good (contract H3). Opened by `launch`.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::clients::{self, Asked};
use crate::descriptors;
use crate::halves;
use crate::room::{Changed, Room};
use crate::sys::watch;

/// How a connection is.
const CONNECTION: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
/// Connections that wait for the supervisor.
const ASKED: usize = 64;
/// After this long it is tried again when descriptors are wanting and none is ours to give back: the kernel tells
/// nobody that there is one again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

type Listener = AsyncFd<OwnedFd>;

/// The control socket, as long as clients can come.
#[derive(Debug)]
pub(crate) struct Door {
    listener: Rc<Listener>,
    room: Rc<Room>,
    asked: mpsc::Sender<Asked>,
    let_in: AbortHandle,
}

/// Where clients ask, and who hears them.
pub(crate) struct Opened {
    pub(crate) door: Door,
    pub(crate) asked_sender: mpsc::Sender<Asked>,
    pub(crate) asked: mpsc::Receiver<Asked>,
}

/// Hands on what clients ask at the control socket.
///
/// # Errors
/// When the socket can't be used.
pub(crate) fn open(listener: std::os::unix::net::UnixListener) -> io::Result<Opened> {
    listener.set_nonblocking(true)?;
    let listener = Rc::new(watch(OwnedFd::from(listener), Interest::READABLE)?);
    let room = Room::new(descriptors::clients());
    let (asked_sender, asked) = mpsc::channel(ASKED);
    let let_in = let_in(listener.clone(), room.clone(), asked_sender.clone());
    let let_in = tokio::task::spawn_local(let_in).abort_handle();
    let door = Door { listener, room, asked: asked_sender.clone(), let_in };
    Ok(Opened { door, asked_sender, asked })
}

impl Door {
    /// How many clients there is room for.
    pub(crate) fn size(&self) -> usize {
        self.room.size()
    }

    /// Lets nobody in any more: who comes from now on finds nobody. Those who have come are heard to the last
    /// word that they have sent by now; then nobody asks any more.
    pub(crate) fn close(self) {
        // The kernel keeps the queue of a listener that is shut down, and refuses those who come later.
        let listener = self.listener.get_ref();
        let _ = shutdown(listener, Shutdown::Read);
        self.let_in.abort();
        while let Ok(connection) = accept_with(listener, CONNECTION) {
            let Ok(connection) = halves::split(connection) else { break };
            clients::welcome(connection, &self.room, self.asked.clone());
        }
        self.room.close();
    }
}

async fn let_in(listener: Rc<Listener>, room: Rc<Room>, asked: mpsc::Sender<Asked>) {
    loop {
        room.vacancy().await;
        match accept(&listener).await.and_then(halves::split) {
            Ok(connection) => clients::welcome(connection, &room, asked.clone()),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // Who came has gone again.
                Some(Errno::CONNABORTED | Errno::INTR) => {}
                _ if room.change().await == Changed::Somebody => {}
                _ => tokio::time::sleep(TRY_AGAIN).await,
            },
        }
    }
}

async fn accept(listener: &Listener) -> io::Result<OwnedFd> {
    loop {
        let mut ready = listener.readable().await?;
        match accept_with(listener.get_ref(), CONNECTION) {
            Err(Errno::WOULDBLOCK) => ready.clear_ready(),
            accepted => return Ok(accepted?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::{Asked, Opened, clients, open};
    use std::io::{Read, Write};

    use boxwood_state::control::{self, Reply, Request};
    use boxwood_types::BoxState;
    use boxwood_wire::frame::Kind;

    use crate::output::Outgoing;

    #[tokio::test(flavor = "local")]
    async fn h3_who_has_come_when_it_closes_is_answered_and_who_comes_later_finds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let Opened { door, asked_sender, mut asked } = open(listener).unwrap();
        drop(asked_sender);
        let request = control::encode(Kind::Request, &Request::Usage).unwrap();
        let come = |speaks: bool| {
            let mut client = UnixStream::connect(&path).unwrap();
            if speaks {
                client.write_all(&request).unwrap();
            }
            client
        };
        let let_in = come(false);
        tokio::task::yield_now().await;
        let waits = [come(true), come(true)];
        let silent = come(false);
        (&let_in).write_all(&request).unwrap();
        door.close();
        assert!(UnixStream::connect(&path).is_err());
        let mut heard = 0;
        while let Some(Asked::Request(request, client)) = asked.recv().await {
            assert_eq!(request, Request::Usage);
            let refused = Reply::Refused { state: BoxState::Exited, message: "over".into() };
            client.send(Outgoing::Last(clients::frame(&refused))).await.unwrap();
            client.closed().await;
            heard += 1;
        }
        assert_eq!(heard, 3);
        let answer = |mut client: UnixStream| {
            let mut answer = String::new();
            client.read_to_string(&mut answer).map(|_| answer.contains("over"))
        };
        for client in waits.into_iter().chain([let_in]) {
            assert!(answer(client).unwrap());
        }
        assert!((&silent).write_all(&request).is_err(), "it finds out when it asks");
    }

    #[tokio::test(flavor = "local")]
    async fn h3_what_was_asked_by_who_has_gone_is_not_done_unless_it_is_an_end_or_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let ask = |request: &Request| {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(&control::encode(Kind::Request, request).unwrap()).unwrap();
            client
        };
        for request in [Request::Pause, Request::Kill, Request::Attach, Request::Reload] {
            drop(ask(&request));
        }
        // It asks for nothing more, and waits.
        let waits = ask(&Request::Unpause);
        waits.shutdown(std::net::Shutdown::Write).unwrap();
        let Opened { mut asked, .. } = open(listener).unwrap();
        for expected in [Request::Kill, Request::Reload, Request::Unpause] {
            let Some(Asked::Request(request, _)) = asked.recv().await else { panic!("a request") };
            assert_eq!(request, expected);
        }
    }
}
