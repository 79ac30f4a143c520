//! Topology of the broker: declaring the exchange, the stream behind it, and the queues.
//!
//! Declaring is idempotent, and fails if something else has the name.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    connect::{AmqpLink, answer},
    error::{BrokerError, Step},
};
use crate::config::{RabbitMqConfig, Topology};

/// How much of the stream is deleted at once when it is old enough. The broker's default of 500 MB
/// would keep events for weeks after their time.
const SEGMENT_BYTES: i64 = 16 << 20;
/// How many dead letters are kept; the oldest are dropped first.
const DEAD_LETTERS: i32 = 10_000;

/// Names of the exchange and the queues at the broker.
#[derive(Debug, Clone)]
pub(super) struct BrokerNames {
    pub(super) exchange: ShortString,
    pub(super) stream: ShortString,
    pub(super) dead_letters: ShortString,
    pub(super) topology: Topology,
    max_age: String,
}

// === impl BrokerNames ===

impl BrokerNames {
    pub(super) fn new(config: &RabbitMqConfig) -> Result<Self, BrokerError> {
        let name = |key, text: &str| {
            // The longest name that the broker allows.
            if text.is_empty() || text.len() > 250 {
                return Err(BrokerError::Topology {
                    key,
                    message: "must be 1 to 250 bytes long".to_owned(),
                });
            }
            Ok(ShortString::from(text))
        };
        Ok(Self {
            exchange: name("exchange", &config.exchange)?,
            stream: name("stream", &config.stream)?,
            dead_letters: name("stream", &format!("{}.dead", config.stream))?,
            topology: config.topology,
            max_age: seconds(config.stream_max_age.get()),
        })
    }

    /// Declares the exchange, and with streams the stream behind it, so that published events are
    /// stored where replicas find them. A refusal closes the channel.
    pub(super) async fn declare(&self, link: &AmqpLink) -> Result<(), BrokerError> {
        let channel = link.channel().await?;
        self.declare_exchange(&channel).await?;
        if self.topology == Topology::Stream {
            self.declare_stream(&channel).await?;
        }
        Ok(())
    }

    /// Declares an exclusive queue that is deleted with the connection, bound to the exchange.
    pub(super) async fn declare_own(&self, channel: &Channel) -> Result<ShortString, BrokerError> {
        let at = |error| BrokerError::at(Step::OwnQueue, &error);
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare("".into(), options, FieldTable::default());
        let name = answer(declared).await?.map_err(at)?.name().clone();
        self.bind(channel, name.clone(), Step::OwnQueue).await?;
        Ok(name)
    }

    /// Declares the bounded dead-letter queue.
    pub(super) async fn declare_dead_letters(&self, channel: &Channel) -> Result<(), BrokerError> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(DEAD_LETTERS));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(self.dead_letters.clone(), options, arguments);
        answer(declared).await?.map_err(|error| BrokerError::at(Step::DeadLetters, &error))?;
        Ok(())
    }

    async fn declare_exchange(&self, channel: &Channel) -> Result<(), BrokerError> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = channel.exchange_declare(
            self.exchange.clone(),
            ExchangeKind::Fanout,
            options,
            FieldTable::default(),
        );
        answer(declared).await?.map_err(|error| BrokerError::at(Step::Exchange, &error))
    }

    async fn declare_stream(&self, channel: &Channel) -> Result<(), BrokerError> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        arguments.insert("x-max-age".into(), AMQPValue::LongString(self.max_age.as_str().into()));
        arguments.insert(
            "x-stream-max-segment-size-bytes".into(),
            AMQPValue::LongLongInt(SEGMENT_BYTES),
        );
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(self.stream.clone(), options, arguments);
        answer(declared).await?.map_err(|error| BrokerError::at(Step::Stream, &error))?;
        self.bind(channel, self.stream.clone(), Step::Stream).await
    }

    async fn bind(
        &self,
        channel: &Channel,
        queue: ShortString,
        step: Step,
    ) -> Result<(), BrokerError> {
        let bound = channel.queue_bind(
            queue,
            self.exchange.clone(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        answer(bound).await?.map_err(|error| BrokerError::at(step, &error))
    }
}

/// A duration in the format of the broker, rounded up to whole seconds.
pub(super) fn seconds(duration: std::time::Duration) -> String {
    let part = u64::from(duration.subsec_nanos() > 0);
    format!("{}s", duration.as_secs().saturating_add(part))
}
