//! Owns publishing: a message counts as published when the broker says that it is stored.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::{
    address::Address,
    connect::{ANSWER_LIMIT, Link, answer},
    error::BrokerError,
    topology::Names,
};
use crate::blacklist::config::RabbitMqConfig;

/// How many messages wait for their confirmation at once.
const IN_FLIGHT: usize = 1_000;
/// Written to disk, not only held in memory.
const PERSISTENT: u8 = 2;

/// Publishes events. What it has not confirmed may have been published or not.
pub(crate) struct Publisher {
    channel: Channel,
    names: Names,
    // After the channel: it ends when it is dropped.
    link: Link,
}

/// A message was not published, or nobody knows.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PublishError {
    /// No queue is bound to the exchange: nobody would ever read the message.
    #[error(
        "`blacklist.rabbitmq.exchange`: no queue is bound to it, so nobody would read the event; \
         start a replica, or set `blacklist.rabbitmq.topology` to stream"
    )]
    Returned,
    /// It was not sent, because it was too late for that.
    #[error("the event was not sent: it would have come too late")]
    Withheld,
    /// The broker cannot store it.
    #[error("the broker could not store the event; see its log")]
    Refused,
    /// The broker is not there, or is gone. The publisher is of no more use.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

// === impl Publisher ===

impl Publisher {
    /// Connects, and makes sure that the exchange exists, and the stream if there is to be one, so
    /// that a confirmation means that replicas will find the event.
    ///
    /// # Errors
    /// When the broker cannot be reached, or something else has one of the names.
    pub(crate) async fn connect(config: &RabbitMqConfig) -> Result<Self, BrokerError> {
        let names = Names::new(config)?;
        let link = Link::open(&Address::new(config)?, "portcullis publisher").await?;
        names.declare(&link).await?;
        let channel = link.channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        answer(confirming).await?.map_err(|error| BrokerError::Lost(error.to_string()))?;
        Ok(Self { channel, names, link })
    }

    /// Publishes messages in their order, without waiting for one before the next is sent, and says
    /// of each what became of it. Before each, `may_send` is asked; when it says no, that was all.
    pub(crate) async fn publish_all(
        &mut self,
        bodies: &[impl AsRef<[u8]>],
        may_send: impl Fn() -> bool + Send + Sync,
    ) -> Vec<Result<(), PublishError>> {
        let mut outcomes = Vec::with_capacity(bodies.len());
        for bodies in bodies.chunks(IN_FLIGHT) {
            let bodies: Vec<&[u8]> = bodies.iter().map(AsRef::as_ref).collect();
            let published =
                tokio::time::timeout(limit(bodies.len()), self.send(&bodies, &may_send)).await;
            match published.unwrap_or(Err(BrokerError::Silent(limit(bodies.len())))) {
                Ok(published) => outcomes.extend(published),
                Err(error) => {
                    outcomes.extend(bodies.iter().map(|_| Err(error.clone().into())));
                }
            }
        }
        outcomes
    }

    /// Whether it is of any more use.
    pub(crate) fn is_connected(&self) -> bool {
        self.channel.status().connected()
    }

    /// Says good-bye to the broker.
    pub(crate) async fn close(self) {
        self.link.close().await;
    }

    /// Ends at once: what is still on its way to the broker is not sent.
    pub(crate) fn abort(self) {
        self.link.abort();
    }

    async fn send(
        &self,
        bodies: &[&[u8]],
        may_send: &(impl Fn() -> bool + Sync),
    ) -> Result<Vec<Result<(), PublishError>>, BrokerError> {
        let lost = |error: lapin::Error| BrokerError::Lost(error.to_string());
        let mut confirmations = Vec::with_capacity(bodies.len());
        for body in bodies {
            if !may_send() {
                break;
            }
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let exchange = self.names.exchange.clone();
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_delivery_mode(PERSISTENT);
            let sent = self.channel.basic_publish(exchange, "".into(), options, body, properties);
            confirmations.push(sent.await.map_err(lost)?);
        }
        let mut outcomes = vec![Err(PublishError::Withheld); bodies.len()];
        let mut returned = Vec::new();
        for (outcome, confirmation) in outcomes.iter_mut().zip(confirmations) {
            let confirmation = confirmation.await.map_err(lost)?;
            *outcome = if confirmation.is_nack() { Err(PublishError::Refused) } else { Ok(()) };
            returned.extend(confirmation.take_message().map(|message| message.delivery.data));
        }
        // Where one confirmation stands for many messages, a returned one may hang on any of them.
        for body in returned {
            let mut sent = bodies.iter().zip(&mut outcomes);
            if let Some((_, outcome)) =
                sent.find(|(sent, outcome)| **sent == body && outcome.is_ok())
            {
                *outcome = Err(PublishError::Returned);
            }
        }
        Ok(outcomes)
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("names", &self.names).finish_non_exhaustive()
    }
}

fn limit(messages: usize) -> Duration {
    let milliseconds = u64::try_from(messages).unwrap_or(u64::MAX);
    ANSWER_LIMIT.saturating_add(Duration::from_millis(milliseconds))
}
