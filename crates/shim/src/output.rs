//! Where main's output goes: to the log, and to every attached client.
//!
//! Clients are waited for, so that a slow reader slows main and loses nothing. Once the box is to
//! end nobody is waited for any more: who does not keep up then is cut off, and finds the rest in the
//! log.

use std::cell::RefCell;
use std::rc::Rc;

use boxwood_state::clock::Moment;
use boxwood_state::log;
use boxwood_state::metrics::{Counter, Counters};
use boxwood_wire::frame::{self, Kind};
use tokio::sync::{mpsc, watch};

/// Frames that wait for one client.
pub(crate) const QUEUE: usize = 4;

/// A client's queue.
pub(crate) type Sender = mpsc::Sender<Outgoing>;

/// A frame for a client, ready to be written.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    /// More may follow.
    Frame(Rc<Vec<u8>>),
    /// Nothing follows: the connection is closed behind it.
    Last(Rc<Vec<u8>>),
}

/// The log and the attached clients of one box.
#[derive(Debug)]
pub(crate) struct Output {
    log: RefCell<log::Writer>,
    log_failed: RefCell<Option<String>>,
    counters: Rc<Counters>,
    clients: RefCell<Vec<Sender>>,
    hurry: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Output {
    pub(crate) fn new(log: log::Writer, counters: Rc<Counters>) -> Self {
        Output {
            log: RefCell::new(log),
            log_failed: RefCell::default(),
            counters,
            clients: RefCell::default(),
            hurry: watch::Sender::new(false),
            open: watch::Sender::new(false),
        }
    }

    /// Lets a client have everything from now on.
    pub(crate) fn attach(&self, client: Sender) {
        let mut clients = self.clients.borrow_mut();
        clients.retain(|client| !client.is_closed());
        clients.push(client);
    }

    /// A main that is started again: those who heard the last one have gone.
    pub(crate) fn begin_again(&self) {
        self.clients.borrow_mut().clear();
        self.hurry.send_replace(false);
        self.open.send_replace(false);
    }

    /// That main runs is written down: its output may be seen.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until the output may be seen.
    pub(crate) async fn opened(&self) {
        // The sender of this watch is ours: it can't go before we do.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// From now on nobody is waited for.
    pub(crate) fn hurry(&self) {
        self.hurry.send_replace(true);
        self.open();
    }

    /// Logs a piece of output and sends it to everybody.
    pub(crate) async fn write(&self, kind: Kind, bytes: &[u8]) {
        let stream = if kind == Kind::Stderr { log::Stream::Stderr } else { log::Stream::Stdout };
        // A write to the page cache: it does not wait for the disk unless memory is short.
        let logged = self.log.borrow_mut().append(Moment::now(), stream, bytes);
        match logged {
            Ok(()) => self.counters.add(Counter::LogBytes, bytes.len() as u64),
            Err(error) => {
                self.log_failed.borrow_mut().get_or_insert(error.to_string());
            }
        }
        let mut whole = frame::header(kind, bytes.len()).to_vec();
        whole.extend_from_slice(bytes);
        let whole = Rc::new(whole);
        let clients: Vec<Sender> = self.clients.borrow().clone();
        let mut gone = false;
        for client in &clients {
            gone |= !self.send(client, &whole).await;
        }
        if gone {
            self.clients.borrow_mut().retain(|client| !client.is_closed());
        }
    }

    /// Why the log is not complete, if it is not.
    pub(crate) fn log_failure(&self) -> Option<String> {
        self.log_failed.borrow().clone()
    }

    /// Whether the client took it.
    async fn send(&self, client: &Sender, frame: &Rc<Vec<u8>>) -> bool {
        let mut hurry = self.hurry.subscribe();
        let hurried = async {
            // The sender of this watch is ours: it can't go before we do.
            let _ = hurry.wait_for(|hurry| *hurry).await;
        };
        tokio::select! {
            biased;
            sent = client.send(Outgoing::Frame(frame.clone())) => sent.is_ok(),
            () = hurried => {
                self.clients.borrow_mut().retain(|other| !other.same_channel(client));
                false
            }
        }
    }
}
