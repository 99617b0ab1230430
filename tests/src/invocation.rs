//! A command about to be run: the binary under test with its arguments, environment and streams.
//! Made by the lab, and by those who run other programs.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::output::Output;
use crate::running::Running;

/// A command that has not been started yet.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    stdin: Input,
    deadline: Duration,
}

#[derive(Debug)]
enum Input {
    /// These bytes, then the end; nothing without bytes.
    Bytes(Vec<u8>),
    /// Whatever the test gives.
    Given,
}

impl Invocation {
    /// A program in the caller's environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Invocation { command, stdin: Input::Bytes(Vec::new()), deadline: crate::DEADLINE }
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Nothing of the environment but these variables.
    #[must_use]
    pub fn only_env(mut self, variables: &[(&str, OsString)]) -> Self {
        self.command.env_clear();
        self.command.envs(variables.iter().map(|(name, value)| (name, value)));
        self
    }

    /// Standard input: these bytes, then its end. Without this it is at its end from the start.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Standard input is this.
    #[must_use]
    pub fn stdin_from(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self.stdin = Input::Given;
        self
    }

    /// Standard output goes there and is not collected.
    #[must_use]
    pub fn stdout_to(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Standard error goes there and is not collected.
    #[must_use]
    pub fn stderr_to(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Runs as this user and group, with no other groups.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// In a process group of its own, as a job of a shell is.
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// Another deadline than [`DEADLINE`](crate::DEADLINE).
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it can't be started, or does not end in time: then it is killed, and what it did so far
    /// is told.
    #[track_caller]
    pub fn output(self) -> Output {
        let (bytes, mut running) = self.start();
        if let Some(bytes) = bytes {
            running.feed(bytes);
        }
        running.wait()
    }

    /// Starts it. Standard input stays open.
    ///
    /// # Panics
    /// When it can't be started.
    #[track_caller]
    pub fn spawn(self) -> Running {
        let (bytes, mut running) = self.start();
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            running.write(&bytes);
        }
        running
    }

    #[track_caller]
    fn start(mut self) -> (Option<Vec<u8>>, Running) {
        let bytes = match self.stdin {
            Input::Bytes(bytes) => {
                self.command.stdin(Stdio::piped());
                Some(bytes)
            }
            Input::Given => None,
        };
        (bytes, Running::start(self.command, self.deadline))
    }
}
