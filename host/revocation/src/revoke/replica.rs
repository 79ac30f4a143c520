//! Heartbeats and confirmations of this replica in Redis: that it is ready, and which receipts it
//! has applied.

use std::time::Duration;

use portcullis_runtime::{drain::Drain, readiness::Readiness};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior},
};

use crate::redis::{Redis, ReplicaRegistry, StoreError};

/// Announces this replica while [`Replica::run`] runs.
#[derive(Debug)]
pub struct Replica {
    name: String,
    registry: ReplicaRegistry,
    receipts: mpsc::Receiver<String>,
    readiness: Readiness,
}

/// What is announced next.
#[derive(Debug, PartialEq, Eq)]
enum Announcement {
    /// That this replica is still ready.
    Heartbeat,
    /// Receipts of events that have been applied.
    Receipts,
}

/// How often a replica announces that it is ready. After three missed heartbeats it is not ready.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How many receipts are confirmed at once.
const BATCH: usize = 256;
/// Receipts are names of keys. Those of Portcullis are shorter; longer ones are ignored.
const LONGEST_RECEIPT: usize = 64;

// === impl Replica ===

impl Replica {
    /// `name` is the name of this replica, `receipts` are those of the events that have been
    /// applied.
    pub(crate) fn new(
        name: String,
        redis: Redis,
        receipts: mpsc::Receiver<String>,
        readiness: &Readiness,
    ) -> Self {
        Self { name, registry: ReplicaRegistry::new(redis), receipts, readiness: readiness.clone() }
    }

    /// Announces until `drain` begins.
    pub async fn run(mut self, drain: Drain) {
        let mut ready = self.readiness.watch();
        let mut heartbeats = tokio::time::interval(HEARTBEAT);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            let announced = tokio::select! {
                biased;
                () = drain.stopping() => break,
                // The sender lives in `readiness`, which lives in here.
                _ = ready.changed() => {
                    let is_ready = *ready.borrow_and_update();
                    self.announce(is_ready).await
                }
                next = next(&mut heartbeats, &mut self.receipts, &mut batch) => {
                    let is_ready = *ready.borrow();
                    let announced = match next {
                        Announcement::Heartbeat if is_ready => self.announce(true).await,
                        Announcement::Heartbeat | Announcement::Receipts => Ok(()),
                    };
                    announced.and(self.confirm(&mut batch).await)
                }
            };
            if let Err(error) = announced {
                tracing::debug!(%error, "cannot announce this replica in Redis");
            }
        }
        // If the store does not answer, publishers wait three seconds for this replica.
        let _ = self.registry.leave(&self.name).await;
    }

    async fn announce(&self, ready: bool) -> Result<(), StoreError> {
        if ready {
            self.registry.announce(&self.name).await
        } else {
            self.registry.leave(&self.name).await
        }
    }

    /// Confirms what is in the batch. It stays there until the store has it.
    async fn confirm(&self, batch: &mut Vec<String>) -> Result<(), StoreError> {
        batch.retain(|receipt| receipt.len() <= LONGEST_RECEIPT);
        if !batch.is_empty() {
            self.registry.confirm(&self.name, batch).await?;
            batch.clear();
        }
        Ok(())
    }
}

/// Waits for the next announcement. A heartbeat that is due comes first: a replica without
/// heartbeats counts as gone, however many receipts it has sent. What is in the batch already goes
/// with the heartbeat.
async fn next(
    heartbeats: &mut Interval,
    receipts: &mut mpsc::Receiver<String>,
    batch: &mut Vec<String>,
) -> Announcement {
    let can_receive = batch.is_empty() && !(receipts.is_closed() && receipts.is_empty());
    tokio::select! {
        biased;
        _ = heartbeats.tick() => Announcement::Heartbeat,
        count = receipts.recv_many(batch, BATCH), if can_receive => {
            if count == 0 {
                // The sender is gone.
                heartbeats.tick().await;
                return Announcement::Heartbeat;
            }
            Announcement::Receipts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_due_heartbeat_precedes_receipts() {
        let (sender, mut receipts) = mpsc::channel(BATCH);
        let mut heartbeats = tokio::time::interval(HEARTBEAT);
        let mut batch = Vec::new();
        for _ in 0..10 {
            sender.try_send("receipt".to_owned()).unwrap();
            assert_eq!(
                next(&mut heartbeats, &mut receipts, &mut batch).await,
                Announcement::Heartbeat
            );
            assert_eq!(
                next(&mut heartbeats, &mut receipts, &mut batch).await,
                Announcement::Receipts
            );
            assert_eq!(batch, ["receipt"]);
            batch.clear();
            tokio::time::advance(HEARTBEAT).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unconfirmed_receipts_wait_for_the_next_heartbeat() {
        let (sender, mut receipts) = mpsc::channel(BATCH);
        let mut heartbeats = tokio::time::interval(HEARTBEAT);
        let mut batch = vec!["old".to_owned()];
        sender.try_send("new".to_owned()).unwrap();
        for _ in 0..3 {
            assert_eq!(
                next(&mut heartbeats, &mut receipts, &mut batch).await,
                Announcement::Heartbeat
            );
        }
        assert_eq!(batch, ["old"]);
        batch.clear();
        assert_eq!(next(&mut heartbeats, &mut receipts, &mut batch).await, Announcement::Receipts);
        batch.clear();
        drop(sender);
        assert_eq!(next(&mut heartbeats, &mut receipts, &mut batch).await, Announcement::Heartbeat);
    }
}
