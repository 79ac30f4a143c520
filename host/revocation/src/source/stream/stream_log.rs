//! Log lines of the stream source: one line for each change, and repeated ones rate limited. No
//! line holds a token id.

use std::time::Duration;

use portcullis_runtime::telemetry::RateLimitedLog;

use crate::{
    event::ParseEventError,
    rabbitmq::{BrokerError, Message},
    redis::StoreError,
};

/// The same text is logged again after this time at the earliest.
const AGAIN: Duration = Duration::from_secs(30);

/// The log lines of the stream source.
#[derive(Debug, Default)]
pub(super) struct StreamLog {
    broker: RateLimitedLog,
    store: RateLimitedLog,
    malformed: RateLimitedLog,
    dead_letters: RateLimitedLog,
}

// === impl StreamLog ===

impl StreamLog {
    /// The broker connection failed.
    pub(super) fn broker(&self, error: &BrokerError, offset: Option<u64>) {
        if let Some(left_out) = self.broker.admit(&error.to_string(), AGAIN) {
            tracing::warn!(%error, offset, left_out, "broker connection failed");
        }
    }

    /// Messages arrive.
    pub(super) fn bound(&self, resumed: Option<u64>) {
        self.broker.clear();
        tracing::info!(resumed, "connected to the broker");
    }

    /// The broker has raised an alarm, or cleared it.
    pub(super) fn alarm(blocked: bool) {
        if blocked {
            tracing::warn!("the broker has an alarm (memory or disk) and accepts no messages");
        } else {
            tracing::info!("the broker's alarm is over");
        }
    }

    /// There is a gap in the stream.
    pub(super) fn gap(expected: Option<u64>, found: Option<u64>) {
        tracing::warn!(
            expected,
            found,
            "gap in the stream: it was trimmed, or deleted and recreated; resnapshotting"
        );
    }

    /// A read from Redis failed.
    pub(super) fn store(&self, error: &StoreError) {
        if let Some(left_out) = self.store.admit(&error.to_string(), AGAIN) {
            tracing::warn!(%error, left_out, "Redis read failed");
        }
    }

    /// The store has been read; the snapshot logs the details.
    pub(super) fn read(&self) {
        self.store.clear();
    }

    /// A message is malformed.
    pub(super) fn malformed(&self, message: &Message, error: ParseEventError) {
        if let Some(left_out) = self.malformed.admit(&error.to_string(), AGAIN) {
            let (offset, bytes) = (message.offset, message.body.len());
            tracing::warn!(
                %error,
                offset,
                bytes,
                left_out,
                "malformed message; moving it to the dead-letter queue"
            );
        }
    }

    /// A malformed message could not be moved to the dead-letter queue.
    pub(super) fn not_dead_lettered(&self, error: &BrokerError) {
        if let Some(left_out) = self.dead_letters.admit(&error.to_string(), AGAIN) {
            tracing::warn!(%error, left_out, "cannot dead-letter a malformed message");
        }
    }
}
