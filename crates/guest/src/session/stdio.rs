//! A process's standard streams: pipes or a terminal on its side, frames of a stream on the shim's.
//! Called by `session`.
//!
//! Bytes are moved when both sides are ready and otherwise stay where they are: in the pipe, or in
//! the stream's window. So a slow reader stops its own process and nothing else (contract G5).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use boxwood_types::WindowSize;
use boxwood_wire::frame::Kind;
use boxwood_wire::message::Stdin;
use boxwood_wire::mux::StreamId;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::connection::Connection;
use crate::fault::{Fault, Step};
use crate::poll::{Pipe, Poll, Source};
use crate::session::terminal::{self, Terminal};
use crate::session::width::Width;

/// Our ends and the child's ends of three pipes, made and watched before there is a child.
pub(crate) struct Pipes {
    stdin: Inlet,
    stdout: Outlet,
    stderr: Outlet,
    child: [OwnedFd; 3],
    null: OwnedFd,
}

impl Pipes {
    /// Makes the pipes of the session in `slot`.
    pub(crate) fn new(poll: &Poll, slot: usize) -> Result<Self, Fault> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).step("create a pipe");
        let (child_in, ours_in) = pipe()?;
        let (ours_out, child_out) = pipe()?;
        let (ours_err, child_err) = pipe()?;
        let ours = [(&ours_in, Pipe::Stdin), (&ours_out, Pipe::Stdout), (&ours_err, Pipe::Stderr)];
        for (fd, which) in ours {
            // Of our ends only: the child's must block, as programs expect.
            rustix::io::ioctl_fionbio(fd, true).step("make a pipe non-blocking")?;
            poll.watch(fd, Source::Pipe(slot, which))?;
        }
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .step("open /dev/null")?;
        Ok(Pipes {
            stdin: Inlet::new(ours_in),
            stdout: Outlet::new(ours_out, Kind::Stdout),
            stderr: Outlet::new(ours_err, Kind::Stderr),
            child: [child_in, child_out, child_err],
            null,
        })
    }

    /// What the child gets as 0, 1 and 2.
    pub(crate) fn child_ends(&self, stdin: Stdin) -> [BorrowedFd<'_>; 3] {
        let [pipe, out, err] = &self.child;
        let input = match stdin {
            Stdin::Null => &self.null,
            Stdin::Stream => pipe,
        };
        [input.as_fd(), out.as_fd(), err.as_fd()]
    }

    /// Our ends, once the child has its own.
    pub(crate) fn into_stdio(self, stdin: Stdin) -> Stdio {
        let mut input = self.stdin;
        if stdin == Stdin::Null {
            input.close();
        }
        Stdio { stdin: input, stdout: self.stdout, stderr: self.stderr, terminal: None }
    }
}

/// What a process is given as its standard streams, before there is a process.
pub(crate) enum Ends {
    /// Pipes, and where input comes from.
    Pipes(Pipes, Stdin),
    /// A terminal, and our ends of it.
    Terminal(Terminal, Inlet, Outlet),
}

impl Ends {
    /// Of a new terminal, watched for the session in `slot`.
    pub(crate) fn terminal(terminal: Terminal, poll: &Poll, slot: usize) -> Result<Self, Fault> {
        let (input, output) = (terminal.ours()?, terminal.ours()?);
        poll.watch(&input, Source::Pipe(slot, Pipe::Stdin))?;
        poll.watch(&output, Source::Pipe(slot, Pipe::Stdout))?;
        Ok(Ends::Terminal(terminal, Inlet::new(input), Outlet::new(output, Kind::Stdout)))
    }

    /// What the child gets as 0, 1 and 2.
    pub(crate) fn child_ends(&self) -> [BorrowedFd<'_>; 3] {
        match self {
            Ends::Pipes(pipes, stdin) => pipes.child_ends(*stdin),
            Ends::Terminal(terminal, ..) => [terminal.theirs(); 3],
        }
    }

    /// The terminal that is to control the child.
    pub(crate) fn controlling(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Ends::Pipes(..) => None,
            Ends::Terminal(terminal, ..) => Some(terminal.theirs()),
        }
    }

    /// Lets the terminal of main be the box's console, if it has one.
    pub(crate) fn become_console(&self, dev: BorrowedFd<'_>) -> Result<(), Fault> {
        match self {
            Ends::Pipes(..) => Ok(()),
            Ends::Terminal(terminal, ..) => terminal.become_console(dev),
        }
    }

    /// Our ends, once the child has its own.
    pub(crate) fn into_stdio(self) -> Stdio {
        match self {
            Ends::Pipes(pipes, stdin) => pipes.into_stdio(stdin),
            Ends::Terminal(terminal, stdin, stdout) => {
                Stdio { stdin, stdout, stderr: Outlet::none(), terminal: Some(terminal) }
            }
        }
    }
}

/// Our ends of a process's standard streams.
pub(crate) struct Stdio {
    pub(crate) stdin: Inlet,
    pub(crate) stdout: Outlet,
    pub(crate) stderr: Outlet,
    terminal: Option<Terminal>,
}

impl Stdio {
    /// The client has no more input. To a terminal that means nothing: there it is a character.
    pub(crate) fn end_input(&mut self) {
        if self.terminal.is_none() {
            self.stdin.close();
        }
    }

    /// Gives the terminal another size, if there is one.
    pub(crate) fn resize(&self, size: WindowSize) -> Result<(), Fault> {
        self.terminal.as_ref().map_or(Ok(()), |terminal| terminal.resize(size))
    }

    /// A pipe became ready.
    pub(crate) fn note(&mut self, pipe: Pipe) {
        match pipe {
            Pipe::Stdin => self.stdin.ready = true,
            Pipe::Stdout => self.stdout.ready = true,
            Pipe::Stderr => self.stderr.ready = true,
        }
    }

    /// The process has ended: what its pipes hold now is the last of it (contract G3).
    pub(crate) fn settle(&mut self) {
        self.stdin.close();
        match self.terminal {
            None => {
                self.stdout.settle();
                self.stderr.settle();
            }
            // How much it holds can't be asked; a read that finds nothing has seen all of it.
            Some(_) => self.stdout.owe(terminal::HOLDS),
        }
    }

    /// Whether everything that is owed has been handed over.
    pub(crate) fn is_drained(&self) -> bool {
        self.stdout.is_drained() && self.stderr.is_drained()
    }
}

/// Where a process's output comes out.
pub(crate) struct Outlet {
    /// `None` once it has ended.
    fd: Option<OwnedFd>,
    kind: Kind,
    ready: bool,
    /// After the process has ended: how much of what it wrote is still in the pipe.
    owed: Option<usize>,
    width: Width,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outward {
    /// To this stream.
    Stream(StreamId),
    /// It stays where it is until it is wanted again.
    Later,
    /// Nobody wants it any more.
    Nowhere,
}

/// What a step of moving bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// There may be more to move at once.
    More,
    /// Nothing until an event.
    Waits,
}

impl Outlet {
    fn new(fd: OwnedFd, kind: Kind) -> Self {
        Outlet { fd: Some(fd), kind, ready: false, owed: None, width: Width::default() }
    }

    /// One that nothing ever comes out of.
    fn none() -> Self {
        Outlet { fd: None, kind: Kind::Stderr, ready: false, owed: None, width: Width::default() }
    }

    fn settle(&mut self) {
        let Some(fd) = &self.fd else { return };
        let held = rustix::io::ioctl_fionread(fd).unwrap_or(0);
        self.owe(usize::try_from(held).unwrap_or(usize::MAX));
    }

    /// A process's grandchild may hold the pipe open and go on writing: that is not owed.
    fn owe(&mut self, bytes: usize) {
        self.owed = Some(bytes);
        self.ready = true;
        self.close_if_paid();
    }

    fn is_drained(&self) -> bool {
        self.fd.is_none()
    }

    fn close_if_paid(&mut self) {
        if self.owed == Some(0) {
            self.fd = None;
        }
    }

    /// Moves one frame, if there is something and room for it.
    pub(crate) fn pump(
        &mut self,
        connection: &mut Connection,
        outward: Outward,
        scratch: &mut [u8],
    ) -> Result<Moved, Fault> {
        let Some(fd) = self.fd.as_ref().filter(|_| self.ready) else { return Ok(Moved::Waits) };
        let room = match outward {
            Outward::Stream(id) => connection.room(id),
            Outward::Later => 0,
            Outward::Nowhere => scratch.len(),
        };
        let limit = room.min(self.owed.unwrap_or(usize::MAX));
        if limit == 0 {
            return Ok(Moved::Waits);
        }
        let read = |place: &mut [u8]| rustix::io::read(fd, place);
        let moved = match outward {
            Outward::Stream(id) => connection.send(id, self.kind, limit, read),
            Outward::Later | Outward::Nowhere => read(&mut scratch[..limit]),
        };
        match moved {
            Ok(0) => self.fd = None,
            Ok(count) => {
                self.width.passed(fd, count);
                self.owed = self.owed.map(|owed| owed - count);
                self.close_if_paid();
                return Ok(Moved::More);
            }
            // A grandchild may have read from the pipe what was owed to us.
            Err(Errno::AGAIN | Errno::IO) if self.owed.is_some() => self.fd = None,
            // EIO is a terminal that its processes hung up: one may open it again.
            Err(Errno::AGAIN | Errno::IO) => self.ready = false,
            Err(Errno::INTR) => return Ok(Moved::More),
            Err(errno) => return Err(errno).step("read a process's output"),
        }
        Ok(Moved::Waits)
    }
}

/// Where a process's input goes in.
pub(crate) struct Inlet {
    /// `None` once it is closed, by us or by the process.
    fd: Option<OwnedFd>,
    ready: bool,
    width: Width,
}

impl Inlet {
    fn new(fd: OwnedFd) -> Self {
        Inlet { fd: Some(fd), ready: true, width: Width::default() }
    }

    /// Whether it may take something. Input that nobody reads any more is taken and dropped.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready || self.fd.is_none()
    }

    /// Ends the input.
    pub(crate) fn close(&mut self) {
        self.fd = None;
    }

    /// Writes what the pipe takes, and says how much; what it did not take stays in its stream's window.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        loop {
            let Some(fd) = &self.fd else { return Ok(bytes.len()) };
            match rustix::io::write(fd, bytes) {
                Ok(count) => {
                    self.width.passed(fd, count);
                    return Ok(count);
                }
                Err(Errno::AGAIN) => {
                    self.ready = false;
                    return Ok(0);
                }
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => self.close(),
                // A terminal that its processes hung up: there is nobody to read this.
                Err(Errno::IO) => return Ok(bytes.len()),
                Err(errno) => return Err(errno).step("write a process's input"),
            }
        }
    }
}
