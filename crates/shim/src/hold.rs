//! Getting a guest to stand still with nothing on its way on the channel, and letting it go on. Called by
//! the [supervisor](crate::supervisor) around a capture.
//!
//! From its request on nothing is sent (see [`Link::cork`]), and the guest's answer is the last that it
//! says. Whatever was sent before has been heard by then, on both sides, so neither the box nor one that is
//! restored from the capture hears anything twice or not at all.

use std::time::Duration;

use boxwood_wire::preface::{HostWord, Mark, encode};
use tokio::sync::mpsc;

use crate::life::Event;
use crate::link::Link;
use crate::questions::{Questions, Unanswered};

/// How long a guest may take to write its disk out and to fall silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks a guest to hold; what comes of it is news.
pub(crate) fn begin(link: Link, questions: Questions, mark: Mark, news: mpsc::Sender<Event>) {
    let asked = async move {
        let cork = link.clone();
        let held = questions.hold(mark, move || cork.cork());
        tokio::pin!(held);
        let event = match tokio::time::timeout(PATIENCE, &mut held).await {
            Ok(answer) => event(answer, &link),
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                let why = format!("its guest did not make the disk whole within {seconds} s");
                let _ = news.send(Event::HoldFailed(why)).await;
                // It may yet hold, and nobody wants that any more.
                if event(held.await, &link) == Event::Held {
                    go_on(&link);
                }
                return;
            }
        };
        // The supervisor goes only when the box has ended.
        let _ = news.send(event).await;
    };
    tokio::task::spawn_local(asked);
}

/// Lets a guest that holds go on.
pub(crate) fn go_on(link: &Link) {
    link.uncork(encode(&HostWord::Continue));
}

fn event(answer: Result<Option<String>, Unanswered>, link: &Link) -> Event {
    let why = match answer {
        Ok(None) => return Event::Held,
        Ok(Some(fault)) => fault.chars().take(400).collect(),
        Err(unanswered) => unanswered.to_string(),
    };
    // It goes on by itself.
    link.uncork(Vec::new());
    Event::HoldFailed(why)
}
