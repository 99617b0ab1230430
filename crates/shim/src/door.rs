//! The way in for clients, from the first connection to the last: no number of them, and no want of
//! descriptors, keeps who comes next out for good (contract H3). Opened by `launch`.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::clients::{self, Asked};
use crate::descriptors;
use crate::room::{Changed, Room};

/// Connections that wait for the supervisor.
const ASKED: usize = 64;
/// After this long it is tried again when descriptors are wanting and none is ours to give back: the kernel tells
/// nobody that there is one again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The control socket, as long as clients can come.
#[derive(Debug)]
pub(crate) struct Door {
    room: Rc<Room>,
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
    let listener = UnixListener::from_std(listener)?;
    let room = Room::new(descriptors::clients());
    let (asked_sender, asked) = mpsc::channel(ASKED);
    let let_in = let_in(listener, room.clone(), asked_sender.clone());
    tokio::task::spawn_local(let_in);
    Ok(Opened { door: Door { room }, asked_sender, asked })
}

impl Door {
    /// How many clients there is room for.
    pub(crate) fn size(&self) -> usize {
        self.room.size()
    }
}

async fn let_in(listener: UnixListener, room: Rc<Room>, asked: mpsc::Sender<Asked>) {
    loop {
        room.vacancy().await;
        match listener.accept().await {
            Ok((connection, _)) => clients::welcome(connection, &room, asked.clone()),
            Err(error) => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                // Who came has gone again.
                Some(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                _ if room.change().await == Changed::Somebody => {}
                _ => tokio::time::sleep(TRY_AGAIN).await,
            },
        }
    }
}
