//! Owns what this replica tells those who revoke tokens: that it is ready, and what it has applied.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior},
};

use super::redis::{Redis, Roll, StoreError};
use crate::{drain::Drain, readiness::Readiness};

/// Tells while [`Replica::run`] runs.
#[derive(Debug)]
pub struct Replica {
    name: String,
    roll: Roll,
    receipts: mpsc::Receiver<String>,
    readiness: Readiness,
}

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// That this replica is still ready.
    Beat,
    /// What has taken effect.
    Receipts,
}

/// How often a replica says that it is ready. Who has been silent three times is not.
const BEAT: Duration = Duration::from_secs(1);
/// How many receipts are confirmed at once.
const BATCH: usize = 256;
/// Receipts are names of keys. Ours are shorter; longer ones are not for us.
const LONGEST_RECEIPT: usize = 64;

// === impl Replica ===

impl Replica {
    /// `name` is what this replica is called, `receipts` are those of the events that have taken
    /// effect.
    pub(super) fn new(
        name: String,
        redis: Redis,
        receipts: mpsc::Receiver<String>,
        readiness: &Readiness,
    ) -> Self {
        Self { name, roll: Roll::new(redis), receipts, readiness: readiness.clone() }
    }

    /// Tells until `drain` begins.
    pub async fn run(mut self, drain: Drain) {
        let mut ready = self.readiness.watch();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            let told = tokio::select! {
                biased;
                () = drain.stopping() => break,
                // The sender lives in `readiness`, which lives in here.
                _ = ready.changed() => {
                    let is_ready = *ready.borrow_and_update();
                    self.announce(is_ready).await
                }
                next = next(&mut beats, &mut self.receipts, &mut batch) => {
                    let is_ready = *ready.borrow();
                    let announced = match next {
                        Next::Beat if is_ready => self.announce(true).await,
                        Next::Beat | Next::Receipts => Ok(()),
                    };
                    announced.and(self.confirm(&mut batch).await)
                }
            };
            if let Err(error) = told {
                tracing::debug!(%error, "cannot tell the store that this replica is ready");
            }
        }
        // If the store does not answer, whoever waits for this replica waits for three seconds.
        let _ = self.roll.leave(&self.name).await;
    }

    async fn announce(&self, ready: bool) -> Result<(), StoreError> {
        if ready { self.roll.announce(&self.name).await } else { self.roll.leave(&self.name).await }
    }

    /// Confirms what is in the batch. It stays there until the store has it.
    async fn confirm(&self, batch: &mut Vec<String>) -> Result<(), StoreError> {
        batch.retain(|receipt| receipt.len() <= LONGEST_RECEIPT);
        if !batch.is_empty() {
            self.roll.confirm(&self.name, batch).await?;
            batch.clear();
        }
        Ok(())
    }
}

/// Waits for what to tell next. A beat that is due comes first: a replica that is not heard of counts
/// as gone, however many receipts it has sent. What is in the batch already goes with the beat.
async fn next(
    beats: &mut Interval,
    receipts: &mut mpsc::Receiver<String>,
    batch: &mut Vec<String>,
) -> Next {
    let can_receive = batch.is_empty() && !(receipts.is_closed() && receipts.is_empty());
    tokio::select! {
        biased;
        _ = beats.tick() => Next::Beat,
        count = receipts.recv_many(batch, BATCH), if can_receive => {
            if count == 0 {
                // Nobody sends any more.
                beats.tick().await;
                return Next::Beat;
            }
            Next::Receipts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_beat_that_is_due_is_told_before_any_receipts() {
        let (sender, mut receipts) = mpsc::channel(BATCH);
        let mut beats = tokio::time::interval(BEAT);
        let mut batch = Vec::new();
        for _ in 0..10 {
            sender.try_send("receipt".to_owned()).unwrap();
            assert_eq!(next(&mut beats, &mut receipts, &mut batch).await, Next::Beat);
            assert_eq!(next(&mut beats, &mut receipts, &mut batch).await, Next::Receipts);
            assert_eq!(batch, ["receipt"]);
            batch.clear();
            tokio::time::advance(BEAT).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_told_waits_for_the_next_beat_and_the_end_of_receipts_ends_nothing() {
        let (sender, mut receipts) = mpsc::channel(BATCH);
        let mut beats = tokio::time::interval(BEAT);
        let mut batch = vec!["old".to_owned()];
        sender.try_send("new".to_owned()).unwrap();
        for _ in 0..3 {
            assert_eq!(next(&mut beats, &mut receipts, &mut batch).await, Next::Beat);
        }
        assert_eq!(batch, ["old"]);
        batch.clear();
        assert_eq!(next(&mut beats, &mut receipts, &mut batch).await, Next::Receipts);
        batch.clear();
        drop(sender);
        assert_eq!(next(&mut beats, &mut receipts, &mut batch).await, Next::Beat);
    }
}
