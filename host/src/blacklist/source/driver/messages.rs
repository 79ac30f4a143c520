//! Messages of the stream: what the driver makes of each.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{BATCH, Driver, Ended, SKIP_REPLAY};
use crate::{
    blacklist::{
        Event,
        feed::FeedEvent,
        rabbitmq::{BrokerError, Message},
        source::{
            message::{self, Parsed},
            notes::Notes,
            steps::{Cause, Input, Mark, Output, Returned, Say},
        },
    },
    failpoint,
    telemetry::Received,
};

impl Driver {
    /// Handles a message, and those that are at hand behind it.
    pub(super) async fn messages(
        &mut self,
        first: Result<Message, BrokerError>,
    ) -> Result<(), Ended> {
        let mut next = Some(first);
        for _ in 0..BATCH {
            match next {
                Some(Ok(message)) => self.message(message).await?,
                Some(Err(error)) => return self.lost(&error).await,
                None => return Ok(()),
            }
            next = match &mut self.session {
                Some(session) => session.next_at_hand().await,
                None => None,
            };
        }
        // One that was taken must not be forgotten.
        match next {
            Some(Ok(message)) => self.message(message).await,
            Some(Err(error)) => self.lost(&error).await,
            None => Ok(()),
        }
    }

    async fn message(&mut self, message: Message) -> Result<(), Ended> {
        self.pulse.seen(Instant::now());
        let mark =
            message.offset.map(|offset| Mark { offset, digest: message::digest(&message.body) });
        let mut probe = None;
        match Parsed::read(&message.body, &self.source.replica) {
            // Applied before: to do so again could undo what came from elsewhere meanwhile.
            _ if self.source.core.has_seen(mark) => {}
            Parsed::Revocation(..) | Parsed::Removal(..) if self.skips_replay() => {}
            Parsed::Revocation(event, receipt) => {
                self.pulse.has_traffic();
                self.source.ends.metrics.received(message::kind(&event));
                self.removals.revoked(&event, Instant::now());
                self.source.count_expiry(&event, &message.body);
                self.apply(event, receipt).await?;
            }
            Parsed::Removal(removal) => {
                self.pulse.has_traffic();
                self.source.ends.metrics.received(message::kind(&removal.target.removal()));
                if !self.removals.heard(removal, Instant::now()) {
                    tracing::warn!("too many removals wait for the store; one was dropped");
                }
            }
            Parsed::Probe(number) => {
                let returned = |number| Returned { number, in_time: self.pulse.is_in_time(number) };
                probe = number.map(returned);
            }
            Parsed::Malformed(error) => {
                self.pulse.has_traffic();
                self.source.ends.metrics.received(Received::Malformed);
                self.notes.malformed(&message, error);
                if let Some(session) = self.session.as_ref().filter(|session| !session.is_blocked())
                    && let Err(error) = session.dead_letter(&message).await
                {
                    self.notes.not_put_aside(&error);
                }
            }
        }
        let before = self.offset;
        if let Some(offset) = message.offset {
            self.offset = Some(offset);
            self.source.ends.metrics.set_offset(offset);
        }
        let outputs = self.source.core.on(Input::Delivered { mark, probe });
        if outputs.contains(&Output::Say(Say::Lost(Cause::Gap))) {
            Notes::gap(before, message.offset);
        }
        self.perform(outputs).await
    }

    pub(super) async fn apply(
        &mut self,
        event: Event,
        receipt: Option<String>,
    ) -> Result<(), Ended> {
        let received = message::kind(&event);
        match receipt.zip(self.source.ends.receipts.clone()) {
            None => self.tell(FeedEvent::Apply(event, None)).await?,
            Some((receipt, receipts)) => {
                let (ack, applied) = oneshot::channel();
                self.tell(FeedEvent::Apply(event, Some(ack))).await?;
                applied.await.map_err(|_| Ended)?;
                // Where more receipts come than can be told of, revocations go first.
                let _ = receipts.try_send(receipt);
            }
        }
        self.source.ends.metrics.processed(received);
        Ok(())
    }

    /// Wrong on purpose, for tests: what was published meanwhile is let go.
    fn skips_replay(&self) -> bool {
        failpoint::is_on(SKIP_REPLAY) && !self.source.core.is_live()
    }
}
