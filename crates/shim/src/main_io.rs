//! Main's stream and the control stream: what the guest says becomes events of the box's life.

use std::ops::ControlFlow;
use std::rc::Rc;

use boxwood_state::metrics::Counters;
use boxwood_state::{AfterExit, BoxSpec, ProcessSpec};
use boxwood_types::chain;
use boxwood_wire::frame::{self, Kind};
use boxwood_wire::message::{
    AdoptMain, ControlReply, Leaving, MainRequest, Process, ProcessReply, StartMain, Stdin, Streams,
};
use tokio::sync::mpsc;

use crate::greeting::shorten;
use crate::life::{Event, Left, Memory};
use crate::link::{Ear, LinkError, Stream};
use crate::news::Untold;
use crate::output::Output;
use crate::questions::Answers;

/// What is asked on main's stream: its start, or that it goes on here.
pub(crate) fn main_request(spec: &BoxSpec, main: Main) -> MainRequest {
    let leaving = match spec.after_exit {
        AfterExit::Keep => Leaving::Flush,
        AfterExit::Remove => Leaving::Discard,
    };
    match main {
        Main::New => MainRequest::Start(StartMain { process: process(&spec.process), leaving }),
        Main::Restored => MainRequest::Adopt(AdoptMain { leaving }),
    }
}

/// What a restored VM has of main.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Main {
    /// Nothing yet.
    New,
    /// The process, as it ran when it was captured.
    Restored,
}

/// A process as the guest wants it.
pub(crate) fn process(spec: &ProcessSpec) -> Process {
    let bytes = |texts: &[boxwood_state::Text]| texts.iter().map(|text| text.0.clone()).collect();
    Process {
        argv: bytes(&spec.argv),
        env: bytes(&spec.env),
        cwd: spec.cwd.0.clone(),
        user: spec.user.0.clone(),
        streams: match (spec.terminal, spec.open_stdin) {
            (Some(size), _) => Streams::Terminal(size),
            (None, true) => Streams::Pipes(Stdin::Stream),
            (None, false) => Streams::Pipes(Stdin::Null),
        },
    }
}

/// Follows main from its start to its end. Its output is taken whole before its end is told.
pub(crate) async fn follow_main(mut stream: Stream, output: Rc<Output>, news: mpsc::Sender<Event>) {
    loop {
        let event = match stream.next_frame().await {
            Ok(Some(frame)) => match frame.kind {
                Kind::Stdout | Kind::Stderr => {
                    output.write(frame.kind, &frame.payload).await;
                    continue;
                }
                Kind::Reply => main_event(&frame.payload),
                other => Event::LinkLost(format!("the guest sent a {other:?} frame")),
            },
            Ok(None) => Event::LinkLost("the guest closed main's stream".to_owned()),
            Err(error) => Event::LinkLost(words(&error)),
        };
        let started = event == Event::MainStarted;
        // The supervisor goes only when the box has ended.
        if news.send(event).await.is_err() || !started {
            return;
        }
        // Nobody sees output of a main that is not known to run.
        output.opened().await;
    }
}

/// What hears the control stream until the guest has left.
pub(crate) fn control_ear(
    counters: Rc<Counters>,
    (answers, untold): (Answers, Untold),
    news: mpsc::Sender<Event>,
) -> Ear {
    Box::new(move |frame| {
        let event = match frame {
            Ok(Some(frame)) => match frame::parse::<ControlReply>(&frame.payload) {
                Ok(ControlReply::Left { flush_error, counters: claims }) => {
                    counters.claims(claims.orphans_reaped, claims.sessions);
                    Event::GuestLeft(Left {
                        flush_error: flush_error.map(shorten),
                        memory: match claims.oom_kills {
                            0 => Memory::Enough,
                            _ => Memory::Short,
                        },
                    })
                }
                Ok(
                    answer @ (ControlReply::Pong { nonce, .. }
                    | ControlReply::Processes { nonce, .. }
                    | ControlReply::Held { nonce, .. }),
                ) => {
                    if let ControlReply::Pong { counters: claims, .. } = &answer {
                        counters.claims(claims.orphans_reaped, claims.sessions);
                    }
                    answers.hand_on(nonce, answer);
                    return ControlFlow::Continue(());
                }
                Ok(ControlReply::SessionEnded { stream, end }) => {
                    untold.hear(stream, end);
                    return ControlFlow::Continue(());
                }
                Err(error) => Event::LinkLost(error.to_string()),
            },
            Ok(None) => Event::LinkLost("the guest closed its control stream".to_owned()),
            Err(error) => Event::LinkLost(words(&error)),
        };
        let news = news.clone();
        // The supervisor goes only when the box has ended.
        tokio::task::spawn_local(async move { drop(news.send(event).await) });
        ControlFlow::Break(())
    })
}

fn main_event(payload: &[u8]) -> Event {
    match frame::parse::<ProcessReply>(payload) {
        Ok(ProcessReply::Started) => Event::MainStarted,
        Ok(ProcessReply::Exited { status }) => Event::MainEnded(status),
        Ok(ProcessReply::Refused { refusal, reason }) => {
            Event::MainRefused(refusal, shorten(reason))
        }
        Ok(ProcessReply::Failed { step, reason }) => Event::StartFailed(format!(
            "the guest failed at '{}': {}",
            shorten(step),
            shorten(reason)
        )),
        Ok(ProcessReply::Conflict) => Event::StartFailed(
            "the guest says that main was started before, or does not run any more".to_owned(),
        ),
        Ok(reply @ (ProcessReply::TimedOut | ProcessReply::Declined(_))) => {
            Event::LinkLost(format!("the guest said {reply:?} about main"))
        }
        Err(error) => Event::LinkLost(error.to_string()),
    }
}

/// An error with its causes, in one line.
pub(crate) fn words(error: &LinkError) -> String {
    chain(error)
}
