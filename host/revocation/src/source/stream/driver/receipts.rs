//! Awaited receipts while the set is not live: the replica reads them with their events from Redis,
//! applies the events, and confirms.
//!
//! A live set receives the same events from the broker, and confirms them then.

use tokio::time::Instant;

use super::{Driver, FeedEnded};
use crate::{
    redis::Awaited,
    source::stream::{message::Parsed, tasks::ReadAwaited},
};

impl Driver {
    /// Polls for awaited receipts, unless the set is live.
    pub(super) fn poll_awaited(&mut self) {
        if self.source.state.is_live() || self.source.deps.receipts.is_none() {
            return;
        }
        if let Some(mut reader) = self.awaited.take() {
            self.tasks.awaited.start(async move {
                let awaited = reader.read().await;
                (reader, awaited)
            });
        }
    }

    /// Applies awaited events. An un-revocation is confirmed when the store has confirmed that the
    /// key is gone.
    pub(super) async fn read_awaited(
        &mut self,
        (reader, awaited): ReadAwaited,
    ) -> Result<(), FeedEnded> {
        self.awaited = Some(reader);
        let awaited = awaited.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot read awaited receipts from Redis");
            Vec::new()
        });
        for Awaited { receipt, events } in awaited {
            for event in &events {
                self.apply_awaited(event, &receipt).await?;
            }
        }
        Ok(())
    }

    async fn apply_awaited(&mut self, event: &[u8], expected: &str) -> Result<(), FeedEnded> {
        match Parsed::read(event) {
            // Only the last event has the receipt: by then, all others have been applied.
            Parsed::Revocation(event, receipt) => {
                self.unrevocations.revoked(&event, Instant::now());
                self.put(event, receipt.filter(|receipt| receipt == expected)).await
            }
            Parsed::Unrevocation(unrevocation) => {
                self.unrevocations.received(unrevocation, Instant::now());
                Ok(())
            }
            Parsed::Probe(_) | Parsed::Malformed(_) => Ok(()),
        }
    }
}
