//! Starting a box: its shim is spawned with the box's lock, and becomes its owner.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use boxwood_shim as shim;
use boxwood_state::{BoxDir, BoxSpec, Client, Owner, failpoint};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use crate::pool::{Seat, Seated};
use crate::shim_client::{ShimReader, ShimWriter, split};
use crate::{Error, Runtime, sys};

/// A box whose lock is held and whose shim is not started.
#[derive(Debug)]
pub struct Held {
    pub(crate) dir: BoxDir,
    pub(crate) spec: BoxSpec,
    pub(crate) owner: Owner,
    /// A VM that waits for it.
    pub(crate) seat: Option<Seat>,
}

/// A box whose shim was started. While this lives, an attached box does; when it is dropped, the
/// shim stops the box.
#[derive(Debug)]
pub struct Started {
    /// The box.
    pub dir: BoxDir,
    /// What the shim says.
    pub reader: ShimReader,
    /// What main reads.
    pub writer: ShimWriter,
    _alive: OwnedFd,
}

impl Held {
    /// The box.
    pub fn spec(&self) -> &BoxSpec {
        &self.spec
    }

    /// Starts the shim and hands it the lock.
    ///
    /// # Errors
    /// When the process could not be made. The box then stays, not started.
    pub fn start(self, runtime: &Runtime) -> Result<Started, Error> {
        let failed = |source: std::io::Error| Error::Spawn { id: self.spec.id.clone(), source };
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                .map_err(|errno| failed(errno.into()))?;
        let (their_end, alive) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let mut command = Command::new(&runtime.shim);
        command.arg(shim::VERB).arg(runtime.home.root()).arg(self.spec.id.as_str());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let complaints = self.complaints().map_err(failed)?;
        command.stderr(complaints.try_clone().map_err(failed)?);
        command.current_dir("/");
        // In the order of the shim's STARTER_FD, LOCK_FD, ALIVE_FD and LISTENER_FD.
        let Owner { lock, listener } = self.owner;
        let descriptors = [theirs, lock.into(), their_end, listener.into()];
        failpoint("start: before the shim");
        let seated = match self.seat {
            Some(seat) => seat.take(&self.spec.id, &descriptors, complaints, &self.dir)?,
            None => Seated::No,
        };
        let replacement = match seated {
            Seated::Yes(replacement) => replacement,
            Seated::No => {
                sys::spawn_detached(command, &descriptors)
                    .map_err(|source| Error::Spawn { id: self.spec.id.clone(), source })?;
                None
            }
        };
        failpoint("start: shim spawned");
        if self.spec.client == Client::Attached {
            runtime.attachments.add(runtime, &self.spec.id);
        }
        let unblocked = rustix::io::ioctl_fionbio(&ours, true);
        unblocked.map_err(|errno| Error::Connection {
            id: self.spec.id.clone(),
            source: errno.into(),
        })?;
        let (mut reader, writer) = split(&self.spec.id, ours)?;
        reader.keep_until_it_speaks(replacement);
        Ok(Started { dir: self.dir, reader, writer, _alive: alive })
    }

    /// Where the shim says what it can't write into the record.
    fn complaints(&self) -> std::io::Result<File> {
        let path: PathBuf = self.dir.path().join("shim.log");
        File::options().create(true).append(true).open(path)
    }
}
