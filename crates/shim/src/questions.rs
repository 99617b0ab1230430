//! What the shim asks the guest and the guest answers: signs of life, counters, processes. Asked by the
//! [supervisor](crate::supervisor) for clients; the answers come with the control stream, which
//! [`main_io`](crate::main_io) follows.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use boxwood_wire::message::{ControlReply, ControlRequest, Counters, ProcessInfo};
use boxwood_wire::preface::Mark;
use tokio::sync::oneshot;

use crate::orders::Orders;

/// How long a guest that is alive may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Questions at the same time. Who asks one more is told so.
const OPEN: usize = 64;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// It takes nothing, or too much was asked already.
    #[error("its guest takes no more questions")]
    Deaf,
    /// It has not answered in time.
    #[error("its guest does not answer")]
    Silent,
    /// It answered something else.
    #[error("its guest gave an answer that is none")]
    Nonsense,
}

/// The way of questions to a guest, and of its answers back.
#[derive(Clone)]
pub(crate) struct Questions {
    orders: Orders,
    answers: Answers,
}

/// Where answers go.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    waiting: Rc<RefCell<HashMap<u64, oneshot::Sender<ControlReply>>>>,
    /// What hears the signs of life that come by themselves.
    beat: Rc<RefCell<Option<Beat>>>,
    asked: Rc<Cell<u64>>,
}

/// Signs of life that come by themselves.
struct Beat {
    nonce: u64,
    hear: Box<dyn Fn()>,
}

impl Answers {
    /// Gives an answer to whoever asked. One that nobody waits for any more is dropped.
    pub(crate) fn hand_on(&self, nonce: u64, answer: ControlReply) {
        if let Some(beat) = &*self.beat.borrow()
            && beat.nonce == nonce
        {
            return (beat.hear)();
        }
        if let Some(asker) = self.waiting.borrow_mut().remove(&nonce) {
            let _ = asker.send(answer);
        }
    }

    fn nonce(&self) -> u64 {
        let nonce = self.asked.get();
        self.asked.set(nonce + 1);
        nonce
    }

    /// A question that was not asked before, and its answer to come.
    fn expect(&self) -> Result<(Place, oneshot::Receiver<ControlReply>), Unanswered> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= OPEN {
            return Err(Unanswered::Deaf);
        }
        let nonce = self.nonce();
        let (sender, answer) = oneshot::channel();
        waiting.insert(nonce, sender);
        Ok((Place { answers: self.clone(), nonce }, answer))
    }
}

/// The signs of life that a guest gives by itself, as long as this lives.
pub(crate) struct Beats {
    questions: Questions,
    nonce: u64,
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.questions.answers.beat.take();
        // A guest that takes nothing gives none either.
        let _ = self.questions.orders.ask(ControlRequest::Beat { nonce: self.nonce, every_ms: 0 });
    }
}

/// One who waits for an answer, as long as this lives.
struct Place {
    answers: Answers,
    nonce: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.answers.waiting.borrow_mut().remove(&self.nonce);
    }
}

impl Questions {
    /// Over the control service, with the answers that its stream's follower hands on.
    pub(crate) fn over(orders: Orders, answers: Answers) -> Self {
        Questions { orders, answers }
    }

    /// Asks for a sign of life, which comes with what the guest has counted.
    pub(crate) async fn ping(&self) -> Result<Counters, Unanswered> {
        self.ping_until(tokio::time::sleep(ANSWER)).await
    }

    /// The same from a guest that may take until `over` is.
    pub(crate) async fn ping_until(
        &self,
        over: impl Future<Output = ()>,
    ) -> Result<Counters, Unanswered> {
        match self.ask_until(|nonce| ControlRequest::Ping { nonce }, over).await? {
            ControlReply::Pong { counters, .. } => Ok(counters),
            _ => Err(Unanswered::Nonsense),
        }
    }

    /// Asks for signs of life that need no more asking, so long after each other; `hear` is called for each, in
    /// the turn that reads it, and does little. There is one who asks for them.
    pub(crate) fn beats(
        &self,
        every: Duration,
        hear: impl Fn() + 'static,
    ) -> Result<Beats, Unanswered> {
        let nonce = self.answers.nonce();
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let asked = self.orders.ask(ControlRequest::Beat { nonce, every_ms });
        asked.map_err(|_| Unanswered::Deaf)?;
        self.answers.beat.replace(Some(Beat { nonce, hear: Box::new(hear) }));
        Ok(Beats { questions: self.clone(), nonce })
    }

    /// Asks which processes run in the box, and how many more there are than are told.
    pub(crate) async fn processes(&self) -> Result<(Vec<ProcessInfo>, u32), Unanswered> {
        match self.ask(|nonce| ControlRequest::Processes { nonce }, ANSWER).await? {
            ControlReply::Processes { processes, more, .. } => Ok((processes, more)),
            _ => Err(Unanswered::Nonsense),
        }
    }

    /// Asks it to hold; `sent` is called when the question is on its way and nothing behind it. What keeps
    /// it from that, if something does. Takes as long as it takes.
    pub(crate) async fn hold(
        &self,
        mark: Mark,
        sent: impl FnOnce() + 'static,
    ) -> Result<Option<String>, Unanswered> {
        let (place, answer) = self.answers.expect()?;
        let question = ControlRequest::Hold { nonce: place.nonce, mark };
        self.orders.send(question, sent).map_err(|_| Unanswered::Deaf)?;
        match answer.await {
            Ok(ControlReply::Held { fault, .. }) => Ok(fault),
            Ok(_) => Err(Unanswered::Nonsense),
            Err(_) => Err(Unanswered::Silent),
        }
    }

    async fn ask(
        &self,
        question: impl FnOnce(u64) -> ControlRequest,
        within: Duration,
    ) -> Result<ControlReply, Unanswered> {
        self.ask_until(question, tokio::time::sleep(within)).await
    }

    async fn ask_until(
        &self,
        question: impl FnOnce(u64) -> ControlRequest,
        over: impl Future<Output = ()>,
    ) -> Result<ControlReply, Unanswered> {
        let (place, answer) = self.answers.expect()?;
        self.orders.ask(question(place.nonce)).map_err(|_| Unanswered::Deaf)?;
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| Unanswered::Silent),
            () = over => Err(Unanswered::Silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use boxwood_wire::frame::CONTROL_PORT;

    use super::*;
    use crate::link::Link;

    fn questions(answers: &Answers) -> Questions {
        // Nothing moves on this link: answers are handed on by the test.
        let stream = Link::new(boxwood_state::metrics::Counters::nowhere().into())
            .open(CONTROL_PORT)
            .unwrap();
        Questions::over(Orders::over(stream.writer()), answers.clone())
    }

    fn pong(nonce: u64, sessions: u64) -> ControlReply {
        ControlReply::Pong {
            nonce,
            counters: Counters { orphans_reaped: 0, sessions, oom_kills: 0 },
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn h9_an_answer_reaches_who_asked_and_a_late_one_nobody() {
        let answers = Answers::default();
        let asked = questions(&answers);
        // The first is not answered in time.
        assert_eq!(asked.ping().await, Err(Unanswered::Silent));
        let answer = async {
            tokio::task::yield_now().await;
            answers.hand_on(0, pong(0, 1));
            answers.hand_on(1, pong(1, 2));
        };
        let (got, ()) = tokio::join!(asked.ping(), answer);
        assert_eq!(got, Ok(Counters { orphans_reaped: 0, sessions: 2, oom_kills: 0 }));
        let nonsense = async { answers.hand_on(2, pong(2, 3)) };
        let (got, ()) = tokio::join!(biased; asked.processes(), nonsense);
        assert_eq!(got, Err(Unanswered::Nonsense));
        assert!(answers.waiting.borrow().is_empty());
    }

    #[tokio::test(flavor = "local")]
    async fn h9_a_sign_of_life_that_comes_by_itself_is_heard_by_who_has_asked_for_it() {
        let answers = Answers::default();
        let asked = questions(&answers);
        let heard = Rc::new(Cell::new(0));
        let count = heard.clone();
        let beats = asked.beats(Duration::from_secs(30), move || count.set(count.get() + 1));
        let nonce = beats.as_ref().unwrap().nonce;
        for of in [nonce, nonce + 1, nonce] {
            answers.hand_on(of, pong(of, 0));
        }
        assert_eq!(heard.get(), 2);
        drop(beats);
        answers.hand_on(nonce, pong(nonce, 0));
        assert_eq!(heard.get(), 2);
    }

    #[tokio::test(flavor = "local")]
    async fn h9_what_waits_is_bounded_and_who_goes_waits_no_more() {
        let answers = Answers::default();
        let asked = questions(&answers);
        let places: Vec<_> = std::iter::from_fn(|| answers.expect().ok()).take(1000).collect();
        assert_eq!(places.len(), OPEN);
        assert_eq!(asked.ping().await, Err(Unanswered::Deaf));
        drop(places);
        assert!(answers.waiting.borrow().is_empty());
    }
}
