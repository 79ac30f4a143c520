//! Owns what this replica tells those who revoke tokens: that it is ready, and what it has applied.

use std::time::Duration;

use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    config::RedisConfig,
    redis::{BuildError as RedisBuildError, Roll, StoreError},
};
use crate::{drain::Drain, readiness::Readiness};

/// Tells while [`Replica::run`] runs.
#[derive(Debug)]
pub struct Replica {
    name: String,
    roll: Roll,
    receipts: mpsc::Receiver<String>,
    readiness: Readiness,
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
        config: &RedisConfig,
        receipts: mpsc::Receiver<String>,
        readiness: &Readiness,
    ) -> Result<Self, RedisBuildError> {
        Ok(Self { name, roll: Roll::build(config)?, receipts, readiness: readiness.clone() })
    }

    /// Tells until `drain` begins.
    pub async fn run(mut self, drain: Drain) {
        let mut ready = self.readiness.watch();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        let mut open = true;
        loop {
            let told = tokio::select! {
                biased;
                () = drain.stopping() => break,
                // The sender lives in `readiness`, which lives in here.
                _ = ready.changed() => {
                    let ready = *ready.borrow_and_update();
                    self.announce(ready).await
                }
                count = self.receipts.recv_many(&mut batch, BATCH), if open && batch.is_empty() => {
                    open = count > 0;
                    self.confirm(&mut batch).await
                }
                _ = beats.tick() => {
                    let confirmed = self.confirm(&mut batch).await;
                    let ready = *ready.borrow();
                    if ready { confirmed.and(self.announce(true).await) } else { confirmed }
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
