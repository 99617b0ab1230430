//! The client of a process in a box, main or one beside it: its streams, its signals, its terminal,
//! its end. Used by `run`, `start -a`, `attach` and `exec`.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use boxwood_api::{KillBox, SignalExec};
use boxwood_client::FromBox;
use boxwood_runtime::state::control::{Reply, SessionAct};
use boxwood_runtime::state::{BoxDir, ExitRecord, StateError};
use boxwood_runtime::{Error, FromShim, Runtime, ShimReader, ShimWriter, Started};
use boxwood_types::{ExitReason, ExitStatus, Signal, WindowSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::detach::{DetachKeys, Typed, Watch};
use crate::out::{say, tell};
use crate::sys::BROKEN_PIPE;
use crate::terminal::{self, Raw};
use crate::{remote, shown};

/// What stands for main where a session has its number.
const MAIN: u32 = 0;

/// The signals a client hands on.
const FORWARDED: [u8; 7] = [1, 2, 3, 10, 12, 15, 18];

/// What a client does with its standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing.
    None,
    /// It is the process's, and so is its end.
    Piped,
    /// It is the process's, and its end is not: others may have more.
    Shared,
    /// It is a terminal, and these keys leave it.
    Terminal(DetachKeys),
}

/// Whether the process has a terminal, whose size follows the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// Output and errors are apart.
    None,
    /// It has one.
    Terminal,
}

/// Whether the steps of a start are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timings {
    /// No.
    Quiet,
    /// On standard error.
    Told,
}

/// What a client does with its streams.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) input: Input,
    pub(crate) screen: Screen,
    pub(crate) timings: Timings,
}

/// How a client came to its end.
#[derive(Debug)]
pub(crate) enum Parting {
    /// This was the last word.
    Told(Reply),
    /// The shim hung up without one.
    HungUp,
    /// The user left; the process goes on.
    Detached,
    /// A signal ended the client, not the process.
    Signalled(Signal),
    /// Nobody reads what the process writes.
    BrokenPipe,
}

/// Whose client this is.
pub(crate) enum Whose {
    /// Main's, whose start this process asked for.
    StartedMain,
    /// Main's, among others.
    Main,
    /// A session's; its number is known once it has started.
    Session,
}

/// A client of a process in a box.
pub(crate) struct Client<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) whose: Whose,
}

/// Where the process is, and by whom it is told what does not go over its streams.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Here, by its box's shim.
    Here { runtime: &'a Runtime, dir: &'a BoxDir },
    /// There, by a daemon that knows the box or the command by this name.
    There { daemon: &'a boxwood_client::Client, name: &'a str },
}

/// What a process says.
pub(crate) trait Hear {
    async fn next(&mut self) -> anyhow::Result<Option<FromShim>>;
}

/// What a process reads.
pub(crate) trait Speak {
    async fn stdin(&mut self, bytes: &[u8]) -> anyhow::Result<()>;
    async fn stdin_eof(&mut self) -> anyhow::Result<()>;
}

impl Hear for ShimReader {
    async fn next(&mut self) -> anyhow::Result<Option<FromShim>> {
        Ok(ShimReader::next(self).await?)
    }
}

impl Hear for boxwood_client::Reader {
    async fn next(&mut self) -> anyhow::Result<Option<FromShim>> {
        let heard = boxwood_client::Reader::next(self).await?;
        Ok(heard.map(|heard| match heard {
            FromBox::Reply(reply) => FromShim::Reply(reply),
            FromBox::Stdout(bytes) => FromShim::Stdout(bytes),
            FromBox::Stderr(bytes) => FromShim::Stderr(bytes),
        }))
    }
}

impl Speak for ShimWriter {
    async fn stdin(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(ShimWriter::stdin(self, bytes).await?)
    }

    async fn stdin_eof(&mut self) -> anyhow::Result<()> {
        Ok(ShimWriter::stdin_eof(self).await?)
    }
}

impl Speak for boxwood_client::Writer {
    async fn stdin(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(boxwood_client::Writer::stdin(self, bytes).await?)
    }

    async fn stdin_eof(&mut self) -> anyhow::Result<()> {
        Ok(boxwood_client::Writer::stdin_eof(self).await?)
    }
}

/// Words that wait for a process that can't be told.
const UNTOLD: usize = 64;
/// Interrupts after which a client leaves, whatever became of the ones before: as Docker's does.
const INTERRUPTS: u32 = 3;

/// When a client stops handing signals on and goes.
struct Patience {
    /// It leaves at the first signal that takes its terminal away.
    gives_back_terminal: bool,
    interrupts: u32,
}

impl Patience {
    fn new(input: &Input) -> Self {
        let gives_back_terminal = matches!(input, Input::Terminal(_));
        Patience { gives_back_terminal, interrupts: 0 }
    }

    fn is_over(&mut self, signal: Signal) -> bool {
        self.interrupts += u32::from(matches!(signal, Signal::INT | Signal::TERM));
        // The terminal has gone, or somebody wants us to give it back.
        let taken_away = matches!(signal, Signal::HUP | Signal::TERM);
        self.interrupts >= INTERRUPTS || self.gives_back_terminal && taken_away
    }
}

/// What is to be told beside the streams.
#[derive(Clone, Copy, Debug)]
enum Word {
    Signal(Signal),
    Resized,
}

impl Client<'_> {
    /// Carries everything until one side ends.
    pub(crate) async fn follow(
        &self,
        reader: &mut impl Hear,
        writer: &mut impl Speak,
        manner: &Manner,
    ) -> anyhow::Result<Parting> {
        let mut words = words(manner.screen)?;
        let (started, session) = watch::channel(None);
        // Dropped on every way out of here, and then the terminal is as before.
        let raw = match manner.input {
            Input::Terminal(_) => Some(Raw::enter()?),
            _ => None,
        };
        let input = async {
            match carry_input(writer, &manner.input).await {
                Typing::Over => std::future::pending().await,
                Typing::Detached => self.release(&session).await,
            }
        };
        let talk = self.talk(&mut words, session.clone(), manner);
        let parting = tokio::select! {
            biased;
            parting = carry_output(reader, manner.timings, &started) => parting,
            parting = input => parting,
            parting = talk => parting,
        };
        drop(raw);
        parting
    }

    /// Hands on signals and sizes.
    async fn talk(
        &self,
        words: &mut mpsc::Receiver<Word>,
        session: watch::Receiver<Option<u32>>,
        manner: &Manner,
    ) -> anyhow::Result<Parting> {
        let (told, mut untold) = mpsc::channel(UNTOLD);
        let deliver = async {
            while let Some(word) = untold.recv().await {
                // A process that has just ended can't be told: its end is on its way.
                match word {
                    Word::Signal(signal) => drop(self.signal(signal, &session).await),
                    // Before it runs it is not told: it will be when it does.
                    Word::Resized if session.borrow().is_none() => {}
                    Word::Resized => drop(self.resize(terminal::size(), &session).await),
                }
            }
            std::future::pending().await
        };
        let hear = async {
            let mut patience = Patience::new(&manner.input);
            let mut running = session.clone();
            loop {
                let word = tokio::select! {
                    Some(word) = words.recv() => word,
                    // A terminal may have had another size when the process was described.
                    Ok(()) = running.changed() => match manner.screen {
                        Screen::Terminal => Word::Resized,
                        Screen::None => continue,
                    },
                    else => return std::future::pending().await,
                };
                if let Word::Signal(signal) = word
                    && patience.is_over(signal)
                {
                    return Parting::Signalled(signal);
                }
                // One that nobody takes for so long is one too many.
                let _ = told.try_send(word);
            }
        };
        tokio::select! {
            parting = hear => Ok(parting),
            () = deliver => unreachable!("it waits for ever"),
        }
    }

    async fn signal(
        &self,
        signal: Signal,
        session: &watch::Receiver<Option<u32>>,
    ) -> anyhow::Result<()> {
        match (self.place, &self.whose) {
            (_, Whose::Session) => self.act(session, SessionAct::Signal(signal)).await?,
            (Place::Here { runtime, dir }, _) => runtime.forward(dir, signal).await?,
            (Place::There { daemon, name }, _) => {
                let signal = Some(signal.number().to_string());
                daemon.kill(name, &KillBox { signal }).await?;
            }
        }
        Ok(())
    }

    async fn resize(
        &self,
        size: WindowSize,
        session: &watch::Receiver<Option<u32>>,
    ) -> anyhow::Result<()> {
        match (self.place, &self.whose) {
            (_, Whose::Session) => self.act(session, SessionAct::Resize(size)).await?,
            (Place::Here { runtime, dir }, _) => runtime.resize(dir, size).await?,
            (Place::There { daemon, name }, _) => daemon.resize(name, &remote::size(size)).await?,
        }
        Ok(())
    }

    /// The user leaves: what was started with this client is to go on.
    async fn release(&self, session: &watch::Receiver<Option<u32>>) -> anyhow::Result<Parting> {
        match (self.place, &self.whose) {
            (_, Whose::Main) => {}
            (_, Whose::Session) => self.act(session, SessionAct::Release).await?,
            (Place::Here { runtime, dir }, _) => runtime.release(dir).await?,
            (Place::There { daemon, name }, _) => daemon.release(name).await?,
        }
        Ok(Parting::Detached)
    }

    async fn act(
        &self,
        session: &watch::Receiver<Option<u32>>,
        act: SessionAct,
    ) -> anyhow::Result<()> {
        let mut session = session.clone();
        // What comes before the session is held until it can be named.
        let number = *session.wait_for(Option::is_some).await?;
        match (self.place, number, act) {
            (_, None, _) => {}
            (Place::Here { runtime, dir }, Some(number), act) => {
                runtime.act(dir, number, act).await?;
            }
            (Place::There { daemon, name }, _, SessionAct::Signal(signal)) => {
                let signal = signal.number().to_string();
                daemon.signal_exec(name, &SignalExec { signal }).await?;
            }
            (Place::There { daemon, name }, _, SessionAct::Resize(size)) => {
                daemon.resize_exec(name, &remote::size(size)).await?;
            }
            (Place::There { daemon, name }, _, SessionAct::Release) => {
                daemon.release_exec(name).await?;
            }
        }
        Ok(())
    }
}

/// Follows a box that this process has started to its end, and returns main's exit code.
pub(crate) async fn until_ended(
    runtime: &Runtime,
    started: Started,
    manner: &Manner,
) -> anyhow::Result<ExitCode> {
    let mut started = started;
    let Started { dir, reader, writer, .. } = &mut started;
    let place = Place::Here { runtime, dir };
    let client = Client { place, whose: Whose::StartedMain };
    let parting = client.follow(reader, writer, manner).await?;
    conclude(place, parting).await
}

/// The exit code of a client of main's.
pub(crate) async fn conclude(place: Place<'_>, parting: Parting) -> anyhow::Result<ExitCode> {
    let id = match place {
        Place::Here { dir, .. } => dir.id().short(),
        Place::There { name, .. } => name.get(..12).unwrap_or(name),
    };
    match parting {
        Parting::Told(Reply::Ended { exit }) => Ok(tell_end(&exit)),
        Parting::Told(Reply::Refused { state, message }) => {
            anyhow::bail!("box {id} is {state}: {message}")
        }
        Parting::Told(_) | Parting::HungUp => Ok(tell_end(&ended(place).await?)),
        Parting::Detached => {
            tell!("detached; box {id} goes on");
            Ok(ExitCode::SUCCESS)
        }
        Parting::Signalled(signal) => {
            tell!("left by {signal}; see 'boxwood ps' for the box");
            Ok(ExitCode::from(128 + signal.number()))
        }
        Parting::BrokenPipe => Ok(ExitCode::from(BROKEN_PIPE)),
    }
}

/// How a box ended whose client did not hear it. One that was to be removed at its end took its result
/// along.
async fn ended(place: Place<'_>) -> anyhow::Result<ExitRecord> {
    match place {
        Place::Here { runtime, dir } => {
            let ended = async { runtime.wait(runtime.find(dir.id().as_str())?).await };
            match ended.await {
                Err(Error::State(StateError::NoSuchBox(_))) => Ok(lost()),
                ended => Ok(ended?),
            }
        }
        Place::There { daemon, name } => match daemon.wait(name).await {
            Ok(ended) => Ok(ended.exit.map_or_else(lost, shown::exit)),
            Err(error) if remote::is_not_found(&error) => Ok(lost()),
            Err(error) => Err(error.into()),
        },
    }
}

/// Waits until main runs, says so by printing `name`, and goes.
pub(crate) async fn until_started(started: Started, name: &str) -> anyhow::Result<ExitCode> {
    let Started { mut reader, dir, .. } = started;
    loop {
        match reader.next().await? {
            Some(FromShim::Reply(Reply::Started { .. })) => {
                say!("{name}")?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(FromShim::Reply(Reply::Ended { exit })) => {
                return Ok(tell_end(&exit));
            }
            Some(_) => {}
            None => anyhow::bail!("the shim of box {} ended without a word", dir.id().short()),
        }
    }
}

/// The end of a box of which nothing is left.
fn lost() -> ExitRecord {
    let status = ExitStatus::Unknown;
    ExitRecord { status, reason: ExitReason::Lost, code: status.shell_code(), message: None }
}

/// Says what there is to say about an end and turns it into an exit code.
fn tell_end(exit: &ExitRecord) -> ExitCode {
    match (&exit.reason, &exit.message) {
        (ExitReason::Exited, None) => {}
        (ExitReason::Exited, Some(message)) => tell!("{message}"),
        (reason, None) => tell!("{reason}"),
        (reason, Some(message)) => tell!("{reason}: {message}"),
    }
    ExitCode::from(exit.code)
}

/// Writes what the process writes, until the last reply.
async fn carry_output(
    reader: &mut impl Hear,
    timings: Timings,
    session: &watch::Sender<Option<u32>>,
) -> anyhow::Result<Parting> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let written = match reader.next().await? {
            Some(FromShim::Stdout(bytes)) => write(&mut stdout, &bytes).await,
            Some(FromShim::Stderr(bytes)) => write(&mut stderr, &bytes).await,
            Some(FromShim::Reply(Reply::SessionStarted { session: number })) => {
                session.send_replace(Some(number));
                Ok(())
            }
            Some(FromShim::Reply(Reply::Started { steps })) => {
                session.send_replace(Some(MAIN));
                if timings == Timings::Told {
                    tell_steps(&steps);
                }
                Ok(())
            }
            Some(FromShim::Reply(Reply::Attached)) => {
                session.send_replace(Some(MAIN));
                Ok(())
            }
            Some(FromShim::Reply(Reply::Done)) => Ok(()),
            Some(FromShim::Reply(last)) => return Ok(Parting::Told(last)),
            None => return Ok(Parting::HungUp),
        };
        match written {
            Ok(()) => {}
            // Who reads this client's output has gone, so it goes, too, and what lives with it ends.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Parting::BrokenPipe);
            }
            Err(error) => return Err(error).context("can't write what the command wrote"),
        }
    }
}

async fn write(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn tell_steps(steps: &[(String, u64)]) {
    for (step, microseconds) in steps {
        tell!("{step}: {:.1} ms", *microseconds as f64 / 1000.0);
    }
}

/// How typing ended.
enum Typing {
    /// There is no more of it.
    Over,
    /// With the detach keys.
    Detached,
}

async fn carry_input(writer: &mut impl Speak, input: &Input) -> Typing {
    let mut watch = match input {
        Input::None => return Typing::Over,
        Input::Piped | Input::Shared => None,
        Input::Terminal(keys) => Some(Watch::new(keys.clone())),
    };
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                let typed = match &mut watch {
                    Some(watch) => watch.take(&buffer[..count]),
                    None => Typed::Input(buffer[..count].to_vec()),
                };
                let (Typed::Input(bytes) | Typed::Detach(bytes)) = &typed;
                if writer.stdin(bytes).await.is_err() {
                    return Typing::Over;
                }
                if matches!(typed, Typed::Detach(_)) {
                    return Typing::Detached;
                }
            }
            // The end, or an input that can't be read: the process sees the end of its input.
            _ => {
                if *input == Input::Piped {
                    let _ = writer.stdin_eof().await;
                }
                return Typing::Over;
            }
        }
    }
}

/// The signals to hand on, and the changes of the terminal's size.
fn words(screen: Screen) -> anyhow::Result<mpsc::Receiver<Word>> {
    let (sender, receiver) = mpsc::channel(16);
    for number in FORWARDED {
        let forward = Signal::try_from(number)?;
        listen(i32::from(number), Word::Signal(forward), sender.clone())?;
    }
    if screen == Screen::Terminal {
        listen(SignalKind::window_change().as_raw_value(), Word::Resized, sender)?;
    }
    Ok(receiver)
}

fn listen(number: i32, word: Word, sender: mpsc::Sender<Word>) -> anyhow::Result<()> {
    let mut heard = signal(SignalKind::from_raw(number))
        .with_context(|| format!("can't listen for signal {number}"))?;
    tokio::spawn(async move {
        while heard.recv().await.is_some() {
            if sender.send(word).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Starts a box of a daemon's with this client, follows it to its end, and returns main's exit code.
pub(crate) async fn start_there(
    daemon: &boxwood_client::Client,
    name: &str,
    manner: &Manner,
) -> anyhow::Result<ExitCode> {
    let (mut reader, mut writer) = daemon.start_attached(name).await?;
    let place = Place::There { daemon, name };
    let client = Client { place, whose: Whose::StartedMain };
    let parting = client.follow(&mut reader, &mut writer, manner).await?;
    conclude(place, parting).await
}
