//! Who waits for something of a box: each client once, so many of them, and none that has gone.

use crate::output::Sender;

/// Clients that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Sender>);

impl Waiters {
    /// One more, if it is not among them.
    pub(super) fn add(&mut self, client: Sender) {
        self.0.retain(|other| !other.is_closed() && !other.same_channel(&client));
        self.0.push(client);
    }

    /// Whether this one is among them.
    pub(super) fn has(&self, client: &Sender) -> bool {
        self.0.iter().any(|other| other.same_channel(client))
    }

    /// How many there are.
    pub(super) fn count(&mut self) -> usize {
        self.0.retain(|client| !client.is_closed());
        self.0.len()
    }

    /// All of them, who wait no more.
    pub(super) fn take(&mut self) -> Vec<Sender> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn g6_a_client_waits_once_and_no_longer_than_it_lives() {
        let mut waiters = Waiters::default();
        let ((one, heard), (two, _kept)) = (mpsc::channel(1), mpsc::channel(1));
        for _ in 0..1000 {
            waiters.add(one.clone());
            waiters.add(two.clone());
        }
        assert_eq!(waiters.count(), 2);
        drop(heard);
        assert_eq!(waiters.count(), 1);
        assert!(waiters.take()[0].same_channel(&two));
        assert_eq!(waiters.count(), 0);
    }
}
