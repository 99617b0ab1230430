//! The runtime's end of a box's control socket.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use boxwood_shim::halves::{self, ReadHalf, WriteHalf};
use boxwood_state::control::{self, Reply, Request};
use boxwood_state::{BoxDir, ExitRecord};
use boxwood_types::{BoxId, ByteSize};
use boxwood_wire::frame::{self, Decoder, Frame, Kind};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::Error;
use crate::vigil::Vigil;

/// What a shim sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromShim {
    /// A reply.
    Reply(Reply),
    /// Standard output: main's or the session's.
    Stdout(Vec<u8>),
    /// Standard error, the same.
    Stderr(Vec<u8>),
}

/// The end of a box, as its shim tells it.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) exit: ExitRecord,
    /// Why it is not written down, if so.
    pub(crate) unwritten: Option<String>,
}

/// The receiving half of a connection to a shim.
#[derive(Debug)]
pub struct ShimReader {
    id: BoxId,
    read: ReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// What somebody waits for the end of.
    until_it_speaks: Option<OwnedFd>,
    /// Until it has spoken.
    vigil: Option<Vigil>,
}

/// The sending half of a connection to a shim.
#[derive(Debug)]
pub struct ShimWriter {
    id: BoxId,
    write: WriteHalf,
}

/// Both halves of a connection that does not block.
///
/// # Errors
/// When it can't be watched.
pub(crate) fn split(id: &BoxId, connection: OwnedFd) -> Result<(ShimReader, ShimWriter), Error> {
    let halves = halves::split(connection);
    let (read, write) = halves.map_err(|source| Error::Connection { id: id.clone(), source })?;
    let decoder = Decoder::new();
    let buffer = vec![0; 64 * 1024];
    let (id, until_it_speaks) = (id.clone(), None);
    let writer = ShimWriter { id: id.clone(), write };
    Ok((ShimReader { id, read, decoder, buffer, until_it_speaks, vigil: None }, writer))
}

/// Connects to a box's shim and asks for something. `None` when there is no shim to ask.
pub(crate) async fn ask(
    dir: &BoxDir,
    request: &Request,
) -> Result<Option<(ShimReader, ShimWriter)>, Error> {
    let id = dir.id();
    let connection = match connected(&dir.socket()) {
        Ok(connection) => connection,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(source) => return Err(Error::Connection { id: id.clone(), source }),
    };
    let (reader, mut writer) = split(id, connection)?;
    match writer.request(request).await {
        Ok(()) => Ok(Some((reader, writer))),
        // It went between the two: the same as if it had not been there.
        Err(Error::Connection { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The same where the first word may take long: until then it is an error when the shim gives no sign of life.
pub(crate) async fn ask_watched(
    dir: &BoxDir,
    request: &Request,
) -> Result<Option<(ShimReader, ShimWriter)>, Error> {
    let mut vigil = Vigil::begin(dir)?;
    let asked = tokio::select! {
        biased;
        asked = ask(dir, request) => asked?,
        error = vigil.given_up() => return Err(error),
    };
    Ok(asked.map(|(reader, writer)| (ShimReader { vigil: Some(vigil), ..reader }, writer)))
}

/// A connection is made at once, or can't be: a shim whose queue is full says so.
pub(crate) fn connected(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

impl ShimReader {
    /// The next thing the shim says; `None` when it hung up.
    ///
    /// # Errors
    /// When the connection fails, what comes is not understood, or the shim gives no sign of life.
    pub async fn next(&mut self) -> Result<Option<FromShim>, Error> {
        loop {
            let protocol = || Error::ShimProtocol { id: self.id.clone() };
            if let Some(frame) = self.decoder.next_frame().map_err(|_| protocol())? {
                (self.until_it_speaks, self.vigil) = (None, None);
                return Self::understand(frame).map(Some).ok_or_else(protocol);
            }
            let read = match &mut self.vigil {
                None => self.read.read(&mut self.buffer).await,
                Some(vigil) => tokio::select! {
                    biased;
                    read = self.read.read(&mut self.buffer) => read,
                    error = vigil.given_up() => return Err(error),
                },
            };
            match read {
                Ok(0) => return Ok(None),
                Ok(count) => self.decoder.push(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(source) => return Err(Error::Connection { id: self.id.clone(), source }),
            }
        }
    }

    /// Closes this when the shim says its first word, or is not listened to any more.
    pub(crate) fn keep_until_it_speaks(&mut self, descriptor: Option<OwnedFd>) {
        self.until_it_speaks = descriptor;
    }

    fn understand(frame: Frame) -> Option<FromShim> {
        match frame.kind {
            Kind::Stdout => Some(FromShim::Stdout(frame.payload)),
            Kind::Stderr => Some(FromShim::Stderr(frame.payload)),
            Kind::Reply => control::decode(&frame.payload).ok().map(FromShim::Reply),
            Kind::Request | Kind::Stdin | Kind::StdinEof => None,
        }
    }

    /// Waits for the word that the box, or its main if that was asked for, has ended. `None` when the shim hung up without it.
    pub(crate) async fn ended(&mut self) -> Result<Option<Heard>, Error> {
        loop {
            match self.next().await? {
                Some(FromShim::Reply(Reply::Ended { exit, unwritten })) => {
                    return Ok(Some(Heard { exit, unwritten }));
                }
                Some(FromShim::Reply(Reply::Result { exit })) => {
                    return Ok(Some(Heard { exit, unwritten: None }));
                }
                Some(FromShim::Reply(Reply::Refused { state, message })) => {
                    return Err(Error::Refused { id: self.id.clone(), state, message });
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

impl ShimWriter {
    /// Sends bytes for standard input.
    ///
    /// # Errors
    /// When the shim has gone.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for chunk in bytes.chunks(frame::MAX_BYTES) {
            let mut whole = frame::header(Kind::Stdin, chunk.len()).to_vec();
            whole.extend_from_slice(chunk);
            self.send(&whole).await?;
        }
        Ok(())
    }

    /// Half-closes standard input.
    ///
    /// # Errors
    /// When the shim has gone.
    pub async fn stdin_eof(&mut self) -> Result<(), Error> {
        self.send(&frame::header(Kind::StdinEof, 0)).await
    }

    async fn request(&mut self, request: &Request) -> Result<(), Error> {
        let limit = ByteSize::from_bytes(frame::MAX_VALUE as u64);
        let bytes = control::encode(Kind::Request, request);
        self.send(&bytes.map_err(|_| Error::TooLarge { limit })?).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let sent = self.write.write_all(bytes).await;
        sent.map_err(|source| Error::Connection { id: self.id.clone(), source })
    }
}
