//! Owns what the source writes into the log: every turn of events in one line, and nothing so often
//! that it fills the disk. No line holds a token id.

use std::time::{Duration, Instant};

use crate::blacklist::{
    ParseEventError,
    rabbitmq::{BrokerError, Message},
    redis::StoreError,
};

/// The same complaint is repeated after this time at the earliest.
const AGAIN: Duration = Duration::from_secs(30);

/// What was written lately.
#[derive(Debug, Default)]
pub(super) struct Notes {
    broker: Seldom,
    store: Seldom,
    malformed: Seldom,
    dead_letters: Seldom,
}

/// Lets a complaint through if it is a new one, or an old one after some time.
#[derive(Debug, Default)]
struct Seldom {
    last: Option<(String, Instant)>,
    left_out: u64,
}

// === impl Notes ===

impl Notes {
    /// The broker is lost, or was not found.
    pub(super) fn broker(&mut self, error: &BrokerError, offset: Option<u64>) {
        if let Some(left_out) = self.broker.wants(error.to_string()) {
            tracing::warn!(%error, offset, left_out, "no revocations from the broker");
        }
    }

    /// Messages arrive.
    pub(super) fn bound(&mut self, resumed: Option<u64>) {
        self.broker = Seldom::default();
        tracing::info!(resumed, "connected to the broker");
    }

    /// The broker has an alarm, or no longer has.
    pub(super) fn alarm(blocked: bool) {
        if blocked {
            tracing::warn!("the broker has an alarm (memory or disk), and takes no messages");
        } else {
            tracing::info!("the broker's alarm is over");
        }
    }

    /// The stream does not go on where it should.
    pub(super) fn gap(expected: Option<u64>, found: Option<u64>) {
        tracing::warn!(
            expected,
            found,
            "the stream no longer holds what was to be read next: it was trimmed, or deleted and \
             made again; reading the store instead"
        );
    }

    /// The store could not be read, or asked.
    pub(super) fn store(&mut self, error: &StoreError) {
        if let Some(left_out) = self.store.wants(error.to_string()) {
            tracing::warn!(%error, left_out, "no revocations from the store");
        }
    }

    /// The store has been read, of which it says more itself.
    pub(super) fn read(&mut self) {
        self.store = Seldom::default();
    }

    /// A message is no event.
    pub(super) fn malformed(&mut self, message: &Message, error: ParseEventError) {
        if let Some(left_out) = self.malformed.wants(error.to_string()) {
            let (offset, bytes) = (message.offset, message.body.len());
            tracing::warn!(%error, offset, bytes, left_out, "a message is no event");
        }
    }

    /// It could not be put aside.
    pub(super) fn not_put_aside(&mut self, error: &BrokerError) {
        if let Some(left_out) = self.dead_letters.wants(error.to_string()) {
            tracing::warn!(%error, left_out, "a message that is no event could not be put aside");
        }
    }
}

// === impl Seldom ===

impl Seldom {
    /// Whether to let it through, and how many were not since the last that was.
    fn wants(&mut self, complaint: String) -> Option<u64> {
        let is_old = |(last, at): &(String, Instant)| *last == complaint && at.elapsed() < AGAIN;
        if self.last.as_ref().is_some_and(is_old) {
            self.left_out += 1;
            return None;
        }
        self.last = Some((complaint, Instant::now()));
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_written_once_and_the_next_one_says_how_often() {
        let mut seldom = Seldom::default();
        assert_eq!(seldom.wants("one".to_owned()), Some(0));
        assert_eq!(seldom.wants("one".to_owned()), None);
        assert_eq!(seldom.wants("one".to_owned()), None);
        assert_eq!(seldom.wants("other".to_owned()), Some(2));
        assert_eq!(seldom.wants("one".to_owned()), Some(0));
    }
}
