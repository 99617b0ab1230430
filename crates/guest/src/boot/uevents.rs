//! The kernel's announcements of devices: how `port` learns of its port without looking again and
//! again.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};

use crate::fault::{Fault, Step};

/// The kernel's multicast group of device events.
const KERNEL_GROUP: u32 = 1;

/// A socket that hears every device event from its opening on.
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    /// Begins to listen.
    pub(crate) fn open() -> Result<Self, Fault> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )
        .step("open a socket for device events")?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, KERNEL_GROUP))
            .step("listen for device events")?;
        Ok(Uevents(socket))
    }

    /// Asks `look` now and after each event, until it finds something or `limit` has passed.
    pub(crate) fn wait_for<T>(
        &self,
        limit: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, Errno> {
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            let timeout = rustix::event::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(0) => return Err(Errno::TIMEDOUT),
                Ok(_) | Err(Errno::INTR) => self.drain(),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// What an event says does not matter, only that there was one; lost ones (ENOBUFS) included.
    fn drain(&self) {
        let mut buffer = [0u8; 2048];
        while let Ok(_) | Err(Errno::NOBUFS) =
            rustix::net::recv(&self.0, &mut buffer, RecvFlags::DONTWAIT)
        {}
    }
}
