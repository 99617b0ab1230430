//! `exec`: a process beside main.

use std::ffi::OsString;

use boxwood_state::control::{Exec, Request, SessionAct};
use boxwood_state::{BoxDir, Client, ProcessSpec, Text};
use boxwood_types::{BoxState, WindowSize};

use crate::request::{DEFAULT_TERM, check_env, check_workdir, env_name, join_env};
use crate::shim_client::{self, ShimReader, ShimWriter};
use crate::wait::{ANSWER, in_time};
use crate::{Error, Listed, Runtime};

/// A process as a user describes it. What is not said is as the box has it, not as main changed it.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Set or, without `=`, unset: `NAME=value`.
    pub env: Vec<OsString>,
    /// Instead of the box's working directory.
    pub workdir: Option<OsString>,
    /// Instead of the box's user.
    pub user: Option<OsString>,
    /// Whether standard input is connected.
    pub open_stdin: bool,
    /// The size of its terminal, if it gets one.
    pub terminal: Option<WindowSize>,
    /// When it is killed, with everything it started; in milliseconds from its start.
    pub timeout_ms: Option<u64>,
    /// Whether the client stays: the process ends with one that does.
    pub client: Client,
}

/// A process that was asked for. Its start is told by [`Reply::SessionStarted`], its end by
/// [`Reply::SessionEnded`].
///
/// [`Reply::SessionStarted`]: boxwood_state::control::Reply::SessionStarted
/// [`Reply::SessionEnded`]: boxwood_state::control::Reply::SessionEnded
#[derive(Debug)]
pub struct Session {
    /// What the shim says.
    pub reader: ShimReader,
    /// What the process reads. While this lives, an attached process does.
    pub writer: ShimWriter,
}

impl ExecRequest {
    /// Checks what can be checked before a box is asked.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn check(&self) -> Result<(), Error> {
        check_env(&self.env)?;
        check_workdir(self.workdir.as_deref())
    }

    fn exec(&self, of_box: &ProcessSpec) -> Exec {
        let text = |own: &Option<OsString>, other: &Text| {
            own.clone().map_or_else(|| other.clone(), Text::from)
        };
        let mut base = of_box.env.clone();
        if self.terminal.is_some() && !base.iter().any(|setting| env_name(&setting.0) == b"TERM") {
            base.push(Text::from(DEFAULT_TERM));
        }
        Exec {
            process: ProcessSpec {
                argv: self.command.iter().cloned().map(Text::from).collect(),
                entrypoint_len: 0,
                env: join_env(base, &self.env),
                cwd: text(&self.workdir, &of_box.cwd),
                user: text(&self.user, &of_box.user),
                open_stdin: self.open_stdin,
                terminal: self.terminal,
            },
            timeout_ms: self.timeout_ms,
            client: self.client,
        }
    }
}

impl Runtime {
    /// Starts a process beside main. In a box that starts it waits until main runs.
    ///
    /// # Errors
    /// When the request is wrong, or the box does not run.
    pub async fn exec(&self, listed: &Listed, request: &ExecRequest) -> Result<Session, Error> {
        request.check()?;
        let exec = request.exec(&listed.spec.process);
        let (reader, writer) = self.streams(listed, &Request::Exec { exec }).await?;
        Ok(Session { reader, writer })
    }

    /// Does something to a process beside main, named by the number it was given. When it has ended
    /// nothing happens.
    ///
    /// # Errors
    /// When the shim can't be asked.
    pub async fn act(&self, dir: &BoxDir, session: u32, act: SessionAct) -> Result<(), Error> {
        self.tell(dir, &Request::Session { session, act }).await
    }

    /// Asks the shim of a box that runs for a process's standard streams.
    pub(crate) async fn streams(
        &self,
        listed: &Listed,
        request: &Request,
    ) -> Result<(ShimReader, ShimWriter), Error> {
        let not_running = || Error::WrongState {
            id: listed.spec.id.clone(),
            state: listed.record.state,
            hint: "it is not running; see 'boxwood start'",
        };
        // A box that is about to be started can be asked already, and answers when it runs.
        if !listed.record.state.is_live() && listed.record.state != BoxState::Created {
            return Err(not_running());
        }
        shim_client::ask_watched(&listed.dir, request).await?.ok_or_else(not_running)
    }

    /// Tells a shim something and waits until it has heard it. That it has gone is no error.
    pub(crate) async fn tell(&self, dir: &BoxDir, request: &Request) -> Result<(), Error> {
        if let Some((mut reader, _writer)) = shim_client::ask(dir, request).await? {
            in_time(dir, ANSWER, reader.next()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g7_a_session_has_the_boxs_environment_and_the_users() {
        let request = ExecRequest {
            command: vec!["sh".into()],
            env: vec!["A=2".into(), "B".into()],
            workdir: None,
            user: Some("web".into()),
            open_stdin: false,
            terminal: Some(WindowSize { rows: 1, columns: 2 }),
            timeout_ms: None,
            client: Client::Attached,
        };
        let process = ProcessSpec {
            argv: vec![Text::from("main")],
            entrypoint_len: 0,
            env: ["PATH=/bin", "A=1", "B=1"].map(Text::from).to_vec(),
            cwd: Text::from("/srv"),
            user: Text::from("root"),
            open_stdin: true,
            terminal: None,
        };
        let exec = request.exec(&process);
        let env: Vec<String> = exec.process.env.iter().map(Text::display).collect();
        assert_eq!(env, ["PATH=/bin", "A=2", "TERM=xterm"]);
        assert_eq!((exec.process.cwd, exec.process.user), (Text::from("/srv"), Text::from("web")));
    }
}
