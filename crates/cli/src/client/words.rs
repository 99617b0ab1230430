//! What is told beside the streams: signals, and sizes of a terminal.

use anyhow::Context;
use boxwood_types::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Input, Screen};

/// The signals a client hands on.
const FORWARDED: [u8; 7] = [1, 2, 3, 10, 12, 15, 18];

/// Interrupts after which a client leaves, whatever became of the ones before: as Docker's does.
const INTERRUPTS: u32 = 3;

/// When a client stops handing signals on and goes.
pub(super) struct Patience {
    /// It leaves at the first signal that takes its terminal away.
    gives_back_terminal: bool,
    interrupts: u32,
}

impl Patience {
    pub(super) fn new(input: &Input) -> Self {
        let gives_back_terminal = matches!(input, Input::Terminal(_));
        Patience { gives_back_terminal, interrupts: 0 }
    }

    pub(super) fn is_over(&mut self, signal: Signal) -> bool {
        self.interrupts += u32::from(matches!(signal, Signal::INT | Signal::TERM));
        // The terminal has gone, or somebody wants us to give it back.
        let taken_away = matches!(signal, Signal::HUP | Signal::TERM);
        self.interrupts >= INTERRUPTS || self.gives_back_terminal && taken_away
    }
}

/// Whether somebody who sends this wants a process to end.
pub(super) fn ends(signal: Signal) -> bool {
    // HUP, INT, QUIT, TERM.
    [1, 2, 3, 15].contains(&signal.number())
}

/// What is to be told beside the streams.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    Signal(Signal),
    Resized,
}

/// The signals to hand on, and the changes of the terminal's size.
pub(super) fn words(screen: Screen) -> anyhow::Result<mpsc::Receiver<Word>> {
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
