//! Handling messages of the stream: deduplication, dispatch, dead letters.

use portcullis_runtime::{failpoint, telemetry::Received};
use tokio::{sync::oneshot, time::Instant};

use super::{BATCH, Driver, FeedEnded, SKIP_REPLAY};
use crate::{
    event::Event,
    feed::FeedEvent,
    outbox_reader::NewEntries,
    rabbitmq::{BrokerError, Message},
    source::{
        received,
        stream::{
            message::{self, Parsed},
            probe_timer::clock,
            sabotage::{self, Sabotage},
            steps::{Cause, Input, Mark, Output, Returned, Say},
            stream_log::StreamLog,
        },
    },
};

/// Wrong on purpose, for tests: an un-revocation is applied without verification.
const TRUST_UNREVOCATIONS: &str = "feed::believe-removals";

impl Driver {
    /// Handles a message, and those that have arrived behind it.
    pub(super) async fn messages(
        &mut self,
        first: Result<Message, BrokerError>,
    ) -> Result<(), FeedEnded> {
        self.message_or_end(first).await?;
        for _ in 0..BATCH {
            let Some(session) = &mut self.session else { break };
            let Some(next) = session.next_at_hand().await else { break };
            self.message_or_end(next).await?;
        }
        Ok(())
    }

    /// Handles a message, or the end of the connection.
    async fn message_or_end(
        &mut self,
        next: Result<Message, BrokerError>,
    ) -> Result<(), FeedEnded> {
        match next {
            Ok(message) => self.message(message).await,
            Err(error) => self.lost(&error).await,
        }
    }

    async fn message(&mut self, message: Message) -> Result<(), FeedEnded> {
        self.probe_timer.on_message(Instant::now());
        let mark =
            message.offset.map(|offset| Mark { offset, digest: message::digest(&message.body) });
        let mut probe = None;
        match Parsed::read(&message.body) {
            // A duplicate: applying it again could undo a newer change from another path.
            _ if self.source.state.has_seen(mark) => {}
            Parsed::Revocation(..) | Parsed::Unrevocation(..) if self.skips_replay() => {}
            Parsed::Revocation(event, receipt) => {
                self.source.deps.metrics.received(received(&event));
                self.unrevocations.revoked(&event, Instant::now());
                self.source.count_expiry(&event, &message.body);
                self.apply(event, receipt).await?;
            }
            Parsed::Unrevocation(unrevocation) if sabotage::is_on(Sabotage::TrustUnrevocations) => {
                self.apply(unrevocation.target.event(), None).await?;
            }
            Parsed::Unrevocation(unrevocation) => {
                self.source.deps.metrics.received(received(&unrevocation.target.event()));
                if failpoint::is_on(TRUST_UNREVOCATIONS) {
                    self.apply(unrevocation.target.event(), None).await?;
                } else if !self.unrevocations.received(unrevocation, Instant::now()) {
                    tracing::warn!("too many pending un-revocations; one was dropped");
                }
            }
            Parsed::Probe(seen) => {
                self.probe_timer.probe_arrived(&seen, Instant::now(), clock());
                if seen.from == self.source.replica {
                    let number = seen.number;
                    probe = Some(Returned { number, in_time: self.probe_timer.is_in_time(number) });
                }
            }
            Parsed::Malformed(error) => {
                self.source.deps.metrics.received(Received::Malformed);
                self.log.malformed(&message, error);
                if let Some(session) = self.session.as_ref().filter(|session| !session.is_blocked())
                    && let Err(error) = session.dead_letter(&message).await
                {
                    self.log.not_dead_lettered(&error);
                }
            }
        }
        let before = self.offset;
        if let Some(offset) = message.offset {
            self.offset = Some(offset);
            self.source.deps.metrics.set_offset(offset);
        }
        let outputs = self.source.state.on(Input::Delivered { mark, probe });
        if outputs.contains(&Output::Say(Say::Lost(Cause::Gap))) {
            StreamLog::gap(before, message.offset);
        }
        self.perform(outputs).await
    }

    /// Applies what was found in the outbox. A query about an un-revocation of the same token that
    /// is in flight is not valid any more, as with a message.
    pub(super) async fn apply_entries(&mut self, entries: NewEntries) -> Result<(), FeedEnded> {
        let NewEntries { events, last, applied } = entries;
        let now = Instant::now();
        for event in events.iter().chain([&last]) {
            self.unrevocations.revoked(event, now);
        }
        if !events.is_empty() {
            self.send(FeedEvent::InitApply(events)).await?;
        }
        self.send(FeedEvent::Apply(last, Some(applied))).await
    }

    pub(super) async fn apply(
        &mut self,
        event: Event,
        receipt: Option<String>,
    ) -> Result<(), FeedEnded> {
        let received = received(&event);
        self.put(event, receipt).await?;
        self.source.deps.metrics.processed(received);
        Ok(())
    }

    /// Applies the event, and confirms its receipt.
    pub(super) async fn put(
        &mut self,
        event: Event,
        receipt: Option<String>,
    ) -> Result<(), FeedEnded> {
        match receipt.zip(self.source.deps.receipts.clone()) {
            None => self.send(FeedEvent::Apply(event, None)).await?,
            Some((receipt, receipts)) => {
                let (ack, applied) = oneshot::channel();
                self.send(FeedEvent::Apply(event, Some(ack))).await?;
                applied.await.map_err(|_| FeedEnded)?;
                // If the queue of receipts is full, the receipt is dropped: revocations have
                // priority.
                let _ = receipts.try_send(receipt);
            }
        }
        Ok(())
    }

    /// Wrong on purpose, for tests: messages that were published meanwhile are dropped.
    fn skips_replay(&self) -> bool {
        failpoint::is_on(SKIP_REPLAY) && !self.source.state.is_live()
    }
}
