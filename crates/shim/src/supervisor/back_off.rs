//! Between two runs of a box: nothing runs, and clients are answered until the next run is due. Called by
//! `launch`.

use std::time::Instant;

use boxwood_state::control::{Reply, Request};
use boxwood_state::{Client, ExitRecord};
use boxwood_types::BoxState;

use super::answers::ends;
use super::{Ears, Supervisor, tell};
use crate::clients::Asked;
use crate::restart::Wanted;

/// What comes after the back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next run.
    Again,
    /// Nothing: somebody wants the box to stay as it is.
    Nothing,
}

impl Supervisor {
    /// Tells everybody how a run ended, and waits until the next is due or somebody wants none.
    pub(crate) async fn back_off(
        &mut self,
        exit: &ExitRecord,
        at: Instant,
        ears: &mut Ears,
    ) -> Then {
        // The client that it was started for hears of the first end, and goes; the box stays.
        self.spec.client = Client::Detached;
        self.part(exit.clone());
        loop {
            let wish = tokio::select! {
                biased;
                Some(asked) = ears.asked.recv() => self.answer_at_rest(asked),
                () = ears.told.stop() => Wanted::Stopped,
                () = tokio::time::sleep_until(at.into()) => return Then::Again,
            };
            if wish != Wanted::Running {
                self.wanted = wish;
                return Then::Nothing;
            }
        }
    }

    /// The box stays as its last run left it.
    pub(crate) fn give_up(&mut self, exit: ExitRecord) -> ExitRecord {
        self.write_end(exit, None)
    }

    fn answer_at_rest(&mut self, asked: Asked) -> Wanted {
        let refused = |message: &str| Reply::Refused {
            state: BoxState::Restarting,
            message: message.to_owned(),
        };
        let wait = "wait until it runs";
        let (request, client) = match asked {
            Asked::StarterGone => return Wanted::Running,
            Asked::Streams(_, caller) => {
                tell(&caller.reply, &refused(wait));
                return Wanted::Running;
            }
            Asked::Request(request, client) => (request, client),
        };
        match request {
            Request::Wait | Request::Result if self.too_many_wait(&client) => {}
            // As with Docker: the end of the next run.
            Request::Wait => self.waiters.add(client),
            Request::Result => self.curious.add(client),
            Request::Stop { .. } => {
                self.waiters.add(client);
                return Wanted::Stopped;
            }
            Request::Kill => {
                self.waiters.add(client);
                return Wanted::Killed;
            }
            Request::Signal { signal } if ends(signal, &self.spec) => {
                tell(&client, &Reply::Done);
                return Wanted::Killed;
            }
            Request::Reload => {
                let reply = self.heed();
                tell(&client, &reply.unwrap_or(Reply::Done));
            }
            Request::Release => tell(&client, &Reply::Done),
            _ => tell(&client, &refused(wait)),
        }
        Wanted::Running
    }
}
