//! The client of a process in a box, main or one beside it: its streams, its signals, its terminal,
//! its end. Used by `run`, `start -a`, `attach` and `exec`.

mod ending;
mod place;
mod streams;
mod words;

use anyhow::Context;
use boxwood_api::{KillBox, SignalExec};
use boxwood_runtime::state::control::{Reply, SessionAct};
use boxwood_types::{Signal, WindowSize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant};

pub(crate) use ending::{conclude, refused, start_there, tell_end, until_ended, until_started};
pub(crate) use place::{Hear, Place, Speak};

use crate::detach::DetachKeys;
use crate::remote;
use crate::terminal::{self, Raw};
use streams::{Typing, carry_input, carry_output};
use words::{Patience, Word};

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

/// Words that wait for a process that can't be told.
const UNTOLD: usize = 64;
/// How long a session that was asked for may take to start before a signal to its client ends the client
/// instead: a guest that does not answer can't be told.
const UNSTARTED: Duration = Duration::from_secs(2);

/// Comes when a session should have started, if somebody wants its client to end.
async fn overdue(asked_to_go: Option<(Signal, Instant)>) -> Option<Signal> {
    let (signal, since) = asked_to_go?;
    tokio::time::sleep_until(since + UNSTARTED).await;
    Some(signal)
}

impl Client<'_> {
    /// Carries everything until one side ends.
    pub(crate) async fn follow(
        &self,
        reader: &mut impl Hear,
        writer: &mut impl Speak,
        manner: &Manner,
    ) -> anyhow::Result<Parting> {
        let mut words = words::words(manner.screen)?;
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
                // The end of an input is told, and this was not it.
                Typing::Failed(error) => Err(error).context("can't read standard input"),
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
            // Since when somebody wants this client to end, before there is a session that could be told.
            let mut asked_to_go: Option<(Signal, Instant)> = None;
            loop {
                let word = tokio::select! {
                    Some(word) = words.recv() => word,
                    Some(signal) = overdue(asked_to_go), if running.borrow().is_none() => {
                        return Parting::Signalled(signal);
                    }
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
                if let (Word::Signal(signal), Whose::Session) = (word, &self.whose)
                    && words::ends(signal)
                {
                    asked_to_go.get_or_insert_with(|| (signal, Instant::now()));
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
