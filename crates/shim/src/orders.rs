//! What the supervisor wants of the guest, on its way there. The supervisor never waits for it: a guest
//! that takes nothing must not keep anybody from being heard, nor a deadline from being kept.

use boxwood_wire::message::ControlRequest;
use tokio::sync::mpsc;

use crate::link::StreamWriter;

/// Orders that wait for a guest that does not take them. Who sends one more is told that it is lost.
const WAITING: usize = 64;

/// What becomes of an order when the guest has it.
type Taken = Box<dyn FnOnce()>;

/// The way of orders to the guest's control service.
#[derive(Clone)]
pub(crate) struct Orders {
    control: StreamWriter,
    sender: mpsc::Sender<(ControlRequest, Taken)>,
}

/// The guest takes no more orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deaf;

impl Orders {
    /// Over the control stream, as long as anybody has this.
    pub(crate) fn over(control: StreamWriter) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(ControlRequest, Taken)>(WAITING);
        let writer = control.clone();
        tokio::task::spawn_local(async move {
            while let Some((order, taken)) = receiver.recv().await {
                // That the guest has gone is told by its hang-up.
                let _ = writer.send_value(&order).await;
                taken();
            }
        });
        Orders { control, sender }
    }

    /// Sends what is asked often: at once if nothing waits, so that nothing has to wake for it.
    pub(crate) fn ask(&self, question: ControlRequest) -> Result<(), Deaf> {
        // What was taken from the queue and is not sent yet has its turn on the stream.
        let waits = self.sender.capacity() < self.sender.max_capacity();
        if !waits && self.control.send_value_now(&question) {
            return Ok(());
        }
        self.send(question, || ())
    }

    /// Sends an order; `taken` is called when it is on its way.
    pub(crate) fn send(
        &self,
        order: ControlRequest,
        taken: impl FnOnce() + 'static,
    ) -> Result<(), Deaf> {
        self.sender.try_send((order, Box::new(taken))).map_err(|_| Deaf)
    }
}

#[cfg(test)]
mod tests {
    use boxwood_types::Signal;
    use boxwood_wire::frame::CONTROL_PORT;
    use boxwood_wire::message::Target;

    use super::*;
    use crate::link::Link;

    #[tokio::test(flavor = "local")]
    async fn h3_a_guest_that_takes_nothing_keeps_nobody_waiting() {
        // Nothing moves on this link, as with a guest that reads nothing.
        let link = Link::new(boxwood_state::metrics::Counters::nowhere().into());
        let stream = link.open(CONTROL_PORT).unwrap();
        let orders = Orders::over(stream.writer());
        let order = ControlRequest::Signal { target: Target::Main, signal: Signal::TERM };
        let mut taken = 0;
        while orders.send(order.clone(), || ()).is_ok() {
            taken += 1;
            assert!(taken < 1_000_000, "what waits is bounded");
            tokio::task::yield_now().await;
        }
        assert_eq!(orders.send(order, || ()), Err(Deaf));
    }

    #[tokio::test(flavor = "local")]
    async fn h9_a_question_goes_at_once_but_never_before_an_order_that_waits() {
        let link = Link::new(boxwood_state::metrics::Counters::nowhere().into());
        let stream = link.open(CONTROL_PORT).unwrap();
        let orders = Orders::over(stream.writer());
        let sent = || link.take_output().len();
        let (opening, question) = (sent(), ControlRequest::Ping { nonce: 1 });
        orders.ask(question.clone()).unwrap();
        let length = sent();
        assert!(opening > 0 && length > 0, "nothing has to wake for it");
        let order = ControlRequest::Signal { target: Target::Main, signal: Signal::TERM };
        orders.send(order, || ()).unwrap();
        orders.ask(question).unwrap();
        assert_eq!(sent(), 0, "the order is first");
        tokio::task::yield_now().await;
        let both = link.take_output();
        assert!(both.len() > length && both.ends_with(&[1]), "{both:?}");
    }
}
