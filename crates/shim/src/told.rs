//! Signals to the shim itself: a TERM or INT is a wish to stop the box.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals a shim listens to.
#[derive(Debug)]
pub(crate) struct Told {
    term: Signal,
    int: Signal,
}

impl Told {
    /// Listens from now on.
    pub(crate) fn listen() -> io::Result<Told> {
        Ok(Told { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Returns when the shim is told to stop its box.
    pub(crate) async fn stop(&mut self) {
        let heard = tokio::select! {
            heard = self.term.recv() => heard,
            heard = self.int.recv() => heard,
        };
        if heard.is_none() {
            // No more signals can come: the runtime is going down.
            std::future::pending().await
        }
    }
}
