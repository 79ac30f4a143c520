//! Publishing to the exchange with publisher confirms: a message counts as published when the
//! broker has confirmed that it is stored.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, ErrorKind,
    options::BasicPublishOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
};

use super::{
    address::BrokerAddress,
    connect::{ANSWER_LIMIT, AmqpLink},
    error::BrokerError,
    topology::BrokerNames,
};
use crate::config::RabbitMqConfig;

/// Written to disk, not only held in memory.
const PERSISTENT: u8 = 2;

/// Publishes events. A message that is not confirmed may have been published or not.
pub(crate) struct Publisher {
    channel: Channel,
    names: BrokerNames,
    // After the channel: it ends when it is dropped.
    link: AmqpLink,
}

/// The outcome of messages that were published in their order.
#[derive(Debug)]
pub(crate) struct PublishOutcome {
    /// How many messages at the beginning are stored.
    pub(crate) confirmed: usize,
    /// Why the next one is not, or not for certain.
    pub(crate) failure: Option<PublishError>,
}

/// A message was not published, or the outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    /// No queue is bound to the exchange, so the message would be lost.
    #[error(
        "`blacklist.rabbitmq.exchange`: no queue is bound to it, so the event would be lost; \
         start a replica, or set `blacklist.rabbitmq.topology` to stream"
    )]
    Returned,
    /// The broker cannot store any message now.
    #[error("the broker could not store the event; see its log")]
    NotStored,
    /// The broker does not accept this message, and would not accept it later. It has closed the
    /// channel: see [`Publisher::reopen`].
    #[error("the broker rejects the event: {0}")]
    Rejected(String),
    /// The broker is unreachable, or its connection broke. The publisher cannot be used any more.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// The confirmations of the broker so far.
#[derive(Debug, Default)]
struct Confirms {
    /// The outcomes of the first messages, in their order.
    outcomes: Vec<Result<(), PublishError>>,
    /// Messages that were routed to no queue. They are confirmed, too.
    returned: Vec<Vec<u8>>,
}

// === impl Publisher ===

impl Publisher {
    /// Connects, and makes sure that the exchange exists, and the stream if there is to be one, so
    /// that a confirmation means that replicas will find the event. Reads the password and the
    /// certificates again each time.
    ///
    /// # Errors
    /// When the broker cannot be reached, or something else has one of the names.
    pub(crate) async fn connect(config: &RabbitMqConfig) -> Result<Self, BrokerError> {
        let names = BrokerNames::new(config)?;
        let link = AmqpLink::open(&BrokerAddress::new(config)?, "portcullis publisher").await?;
        names.declare(&link).await?;
        let channel = link.confirming_channel().await?;
        Ok(Self { channel, names, link })
    }

    /// Goes on after a message was rejected, on a new channel.
    ///
    /// # Errors
    /// When the connection cannot be used any more.
    pub(crate) async fn reopen(&mut self) -> Result<(), BrokerError> {
        self.channel = self.link.confirming_channel().await?;
        Ok(())
    }

    /// Publishes messages in their order, without waiting for one before the next is sent.
    pub(crate) async fn publish_all(&mut self, bodies: &[&[u8]]) -> PublishOutcome {
        let limit = limit(bodies.len());
        let mut confirms = Confirms::default();
        let failure = match tokio::time::timeout(limit, self.send(bodies, &mut confirms)).await {
            Ok(sent) => sent.err(),
            Err(_) => Some(BrokerError::Silent(limit).into()),
        };
        confirms.published(bodies, failure)
    }

    /// Whether it can still be used.
    pub(crate) fn is_connected(&self) -> bool {
        self.channel.status().connected()
    }

    /// Closes the connection in the regular way.
    pub(crate) async fn close(self) {
        self.link.close().await;
    }

    /// Confirmations that arrived before an error are in `confirms`.
    async fn send(&self, bodies: &[&[u8]], confirms: &mut Confirms) -> Result<(), PublishError> {
        let mut confirmations = Vec::with_capacity(bodies.len());
        let mut sent = Ok(());
        for body in bodies {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let exchange = self.names.exchange.clone();
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_delivery_mode(PERSISTENT);
            let sending =
                self.channel.basic_publish(exchange, "".into(), options, body, properties);
            match sending.await {
                Ok(confirmation) => confirmations.push(confirmation),
                Err(error) => {
                    sent = Err(PublishError::of(&error));
                    break;
                }
            }
        }
        for confirmation in confirmations {
            // The channel ends with the cause, which messages that were not sent do not have.
            let confirmation = confirmation.await.map_err(|error| PublishError::of(&error))?;
            let is_stored = !confirmation.is_nack();
            confirms.outcomes.push(if is_stored { Ok(()) } else { Err(PublishError::NotStored) });
            confirms.returned.extend(confirmation.take_message().map(|it| it.delivery.data));
        }
        sent
    }
}

fn limit(messages: usize) -> Duration {
    let milliseconds = u64::try_from(messages).unwrap_or(u64::MAX);
    ANSWER_LIMIT.saturating_add(Duration::from_millis(milliseconds))
}

// === impl Confirms ===

impl Confirms {
    fn published(mut self, bodies: &[&[u8]], failure: Option<PublishError>) -> PublishOutcome {
        // One confirmation may cover many messages, and a returned message may belong to any of
        // them, also to one that was not confirmed any more.
        if failure.is_some() && !self.returned.is_empty() {
            return PublishOutcome { confirmed: 0, failure };
        }
        for body in self.returned {
            let mut sent = bodies.iter().zip(&mut self.outcomes);
            if let Some((_, outcome)) =
                sent.find(|(sent, outcome)| **sent == body && outcome.is_ok())
            {
                *outcome = Err(PublishError::Returned);
            }
        }
        let confirmed = self.outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        let failure = self.outcomes.into_iter().find_map(Result::err).or(failure);
        PublishOutcome { confirmed, failure }
    }
}

// === impl PublishError ===

impl PublishError {
    /// The error for an error of the client library.
    fn of(error: &lapin::Error) -> Self {
        use AMQPSoftError::{CONTENTTOOLARGE, PRECONDITIONFAILED};
        match error.kind() {
            // Missing rights or a missing exchange have other codes: those affect every message.
            ErrorKind::ProtocolError(refusal)
                if matches!(
                    refusal.kind(),
                    AMQPErrorKind::Soft(PRECONDITIONFAILED | CONTENTTOOLARGE)
                ) =>
            {
                Self::Rejected(refusal.get_message().to_string())
            }
            _ => BrokerError::Lost(error.to_string()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    const BODIES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

    fn published(
        outcomes: &[Result<(), PublishError>],
        returned: &[&[u8]],
        failure: Option<PublishError>,
    ) -> (usize, Option<PublishError>) {
        let returned = returned.iter().map(|body| body.to_vec()).collect();
        let confirms = Confirms { outcomes: outcomes.to_vec(), returned };
        let PublishOutcome { confirmed, failure } = confirms.published(&BODIES, failure);
        (confirmed, failure)
    }

    #[test]
    fn what_was_confirmed_before_an_error_is_published() {
        let lost = PublishError::Broker(BrokerError::Lost("gone".to_owned()));
        assert_eq!(published(&[Ok(()), Ok(())], &[], Some(lost.clone())), (2, Some(lost)));
        assert_eq!(published(&[(); 4].map(Ok), &[], None), (4, None));
    }

    #[test]
    fn what_follows_a_message_that_was_not_stored_does_not_count() {
        let outcomes = [Ok(()), Err(PublishError::NotStored), Ok(()), Ok(())];
        assert_eq!(published(&outcomes, &[], None), (1, Some(PublishError::NotStored)));
    }

    #[test]
    fn a_returned_message_is_not_published_although_it_is_confirmed() {
        let stored = [(); 4].map(Ok);
        assert_eq!(published(&stored, &[b"c"], None), (2, Some(PublishError::Returned)));
        // After an error it is not known which else would have been returned.
        let lost = PublishError::Broker(BrokerError::Lost("gone".to_owned()));
        assert_eq!(published(&stored[..3], &[b"c"], Some(lost.clone())), (0, Some(lost)));
    }

    #[test]
    fn only_what_is_about_the_message_is_a_rejection() {
        let of = |kind: AMQPSoftError| {
            let error = ErrorKind::ProtocolError(AMQPError::new(kind.into(), "reply".into()));
            PublishError::of(&error.into())
        };
        let rejected = PublishError::Rejected("reply".to_owned());
        assert_eq!(of(AMQPSoftError::PRECONDITIONFAILED), rejected);
        assert_eq!(of(AMQPSoftError::CONTENTTOOLARGE), rejected);
        for kind in [AMQPSoftError::ACCESSREFUSED, AMQPSoftError::NOTFOUND] {
            assert!(matches!(of(kind), PublishError::Broker(BrokerError::Lost(_))));
        }
    }
}
