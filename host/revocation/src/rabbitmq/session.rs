//! A session at the broker: events are consumed from one position on, until a connection breaks.
//!
//! There are two connections. In a memory or disk alarm, RabbitMQ stops reading from those that
//! publish, and goes on delivering to those that do not. So probes are published on a separate
//! connection.
//!
//! The number of messages that wait to be taken is bounded: the broker sends no more before earlier
//! messages are acknowledged.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    BasicProperties, Channel, Consumer, PublisherConfirm,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    address::BrokerAddress,
    connect::{AmqpLink, answer, within},
    error::{BrokerError, Step},
    topology::{BrokerNames, seconds},
};
use crate::config::{RabbitMqConfig, Topology};

/// How many unacknowledged messages may be in flight.
const PREFETCH: u16 = 1_000;
/// How many messages are acknowledged together; fewer if none follows.
const ACK_EVERY: u32 = 250;
/// How long sending a message may take.
const SEND_LIMIT: Duration = Duration::from_secs(1);
/// The header with the offset of a message in the stream.
const OFFSET: &str = "x-stream-offset";

/// The broker from which events are consumed. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    address: BrokerAddress,
    names: BrokerNames,
    replay: Duration,
    replica: String,
}

/// Where to start reading a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartAt {
    /// As far back as is configured.
    Replay,
    /// At this offset, or the closest one.
    Offset(u64),
}

/// A bound queue that delivers messages.
pub(crate) struct BrokerSession {
    consumer: Consumer,
    incoming: Channel,
    /// For requests that neither consume nor publish.
    control: Channel,
    outgoing: Channel,
    /// The dead-letter queue, or why there is none.
    dead_letters: Result<ShortString, BrokerError>,
    queue: ShortString,
    /// The delivery tag of the last message that was taken, and how many are to be acknowledged
    /// with it.
    taken: Option<(u64, u32)>,
    names: BrokerNames,
    link: Arc<AmqpLink>,
    /// The connection that publishes.
    sender: AmqpLink,
}

/// A message from the queue.
pub(crate) struct Message {
    /// Its offset, if the queue is a stream.
    pub(crate) offset: Option<u64>,
    /// Its content.
    pub(crate) body: Vec<u8>,
}

// === impl Broker ===

impl Broker {
    /// `replica` is the name of this replica at the broker.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub(crate) fn new(config: &RabbitMqConfig, replica: &str) -> Result<Self, BrokerError> {
        Ok(Self {
            address: BrokerAddress::new(config)?,
            names: BrokerNames::new(config)?,
            replay: config.replay.get(),
            replica: replica.to_owned(),
        })
    }

    /// Connects. Everything that is published after this has returned will be delivered, and
    /// everything published since `from`.
    ///
    /// # Errors
    /// When the broker is unreachable, or an exchange or queue is not as it must be.
    pub(crate) async fn bind(self, from: StartAt) -> Result<BrokerSession, BrokerError> {
        let name = format!("portcullis {}", self.replica);
        let sender_name = format!("{name} probes");
        let (link, sender) = tokio::try_join!(
            AmqpLink::open(&self.address, &name),
            AmqpLink::open(&self.address, &sender_name),
        )?;
        self.names.declare(&link).await?;
        let dead_letters = self.dead_letters(&link).await;
        let incoming = link.channel().await?;
        let control = link.channel().await?;
        let outgoing = sender.confirming_channel().await?;
        let at = |error| BrokerError::at(Step::Consume, &error);
        answer(incoming.basic_qos(PREFETCH, BasicQosOptions::default())).await?.map_err(at)?;
        let mut arguments = FieldTable::default();
        let queue = match self.names.topology {
            Topology::Stream => {
                arguments.insert(OFFSET.into(), self.position(from));
                self.names.stream.clone()
            }
            Topology::ExclusiveQueue => self.names.declare_own(&incoming).await?,
        };
        let consuming = incoming.basic_consume(
            queue.clone(),
            "".into(),
            BasicConsumeOptions::default(),
            arguments,
        );
        let consumer = answer(consuming).await?.map_err(at)?;
        Ok(BrokerSession {
            consumer,
            incoming,
            control,
            outgoing,
            dead_letters,
            queue,
            taken: None,
            names: self.names,
            link: Arc::new(link),
            sender,
        })
    }

    /// Declared before it is needed: if that is refused, it must not delay each malformed message.
    async fn dead_letters(&self, link: &AmqpLink) -> Result<ShortString, BrokerError> {
        // On a separate channel, because a refusal closes it.
        self.names.declare_dead_letters(&link.channel().await?).await?;
        Ok(self.names.dead_letters.clone())
    }

    fn position(&self, from: StartAt) -> AMQPValue {
        match from {
            StartAt::Replay if self.replay.is_zero() => AMQPValue::LongString("next".into()),
            StartAt::Replay => AMQPValue::LongString(seconds(self.replay).into()),
            StartAt::Offset(offset) => {
                AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))
            }
        }
    }
}

// === impl BrokerSession ===

impl BrokerSession {
    /// The next message. Cancel safe.
    ///
    /// # Errors
    /// When there will be no more.
    pub(crate) async fn next(&mut self) -> Result<Message, BrokerError> {
        if self.owes_acknowledgement() {
            self.acknowledge().await?;
        }
        // From here on there is no await point after a message has been taken.
        let next = if let Some(next) = self.consumer.next().now_or_never() {
            next
        } else {
            self.acknowledge().await?;
            self.consumer.next().await
        };
        self.take(next)
    }

    /// The next message, if it is there already.
    pub(crate) async fn next_at_hand(&mut self) -> Option<Result<Message, BrokerError>> {
        if self.owes_acknowledgement()
            && let Err(error) = self.acknowledge().await
        {
            return Some(Err(error));
        }
        let next = self.consumer.next().now_or_never()?;
        Some(self.take(next))
    }

    /// Sends a message through the broker to this replica, behind everything that has been
    /// published. The returned future resolves when the broker has confirmed or refused it.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub(crate) async fn send_to_self(
        &self,
        body: &[u8],
    ) -> Result<impl Future<Output = Result<(), BrokerError>> + Send + use<>, BrokerError> {
        let confirm = self.send(self.queue.clone(), body, BasicProperties::default()).await?;
        Ok(
            async move { confirm.await.map(drop).map_err(|error| BrokerError::at(Step::Probe, &error)) },
        )
    }

    /// Moves a malformed message to the dead-letter queue.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub(crate) async fn dead_letter(&self, message: &Message) -> Result<(), BrokerError> {
        let queue = self.dead_letters.clone()?;
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(offset) = message.offset {
            properties = properties.with_message_id(offset.to_string().into());
        }
        self.send(queue, &message.body, properties).await.map(drop)
    }

    /// Whether the broker accepts no messages, because it has an alarm.
    pub(crate) fn is_blocked(&self) -> bool {
        self.sender.is_blocked()
    }

    /// Resolves when the broker answers on the connection that consumes.
    ///
    /// # Errors
    /// When it does not answer in time, or the connection is lost.
    pub(crate) fn liveness(&self) -> impl Future<Output = Result<(), BrokerError>> + Send + use<> {
        let (control, queue) = (self.control.clone(), self.queue.clone());
        async move {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let declaring = control.queue_declare(queue, options, FieldTable::default());
            let answered = within(SEND_LIMIT, declaring).await?;
            answered.map(drop).map_err(|error| BrokerError::at(Step::Consume, &error))
        }
    }

    /// Declares again what must exist at the broker, in case it was deleted or unbound.
    ///
    /// # Errors
    /// When the broker refuses, or does not answer.
    pub(crate) fn declare(&self) -> impl Future<Output = Result<(), BrokerError>> + Send + use<> {
        let (names, link) = (self.names.clone(), Arc::clone(&self.link));
        async move { names.declare(&link).await }
    }

    /// Closes both connections.
    pub(crate) async fn close(self) {
        tokio::join!(self.link.close(), self.sender.close());
    }

    async fn send(
        &self,
        queue: ShortString,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<PublisherConfirm, BrokerError> {
        let options = BasicPublishOptions::default();
        let sending = self.outgoing.basic_publish("".into(), queue, options, body, properties);
        within(SEND_LIMIT, sending).await?.map_err(|error| BrokerError::Lost(error.to_string()))
    }

    fn take(&mut self, next: Option<lapin::Result<Delivery>>) -> Result<Message, BrokerError> {
        let delivery = next
            .ok_or(BrokerError::Cancelled)?
            .map_err(|error| BrokerError::at(Step::Consume, &error))?;
        let offset = offset(&delivery);
        if self.names.topology == Topology::Stream && offset.is_none() {
            // An old broker ignored the queue type and declared an ordinary queue.
            return Err(BrokerError::no_streams());
        }
        let count = self.taken.map_or(0, |(_, count)| count) + 1;
        self.taken = Some((delivery.delivery_tag, count));
        Ok(Message { offset, body: delivery.data })
    }

    fn owes_acknowledgement(&self) -> bool {
        self.taken.is_some_and(|(_, count)| count >= ACK_EVERY)
    }

    /// Acknowledges everything that was taken so far.
    async fn acknowledge(&mut self) -> Result<(), BrokerError> {
        let Some((tag, _)) = self.taken.take() else { return Ok(()) };
        let acknowledging = self.incoming.basic_ack(tag, BasicAckOptions { multiple: true });
        let sent = within(SEND_LIMIT, acknowledging).await?;
        sent.map_err(|error| BrokerError::Lost(error.to_string()))
    }
}

fn offset(delivery: &Delivery) -> Option<u64> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get(OFFSET)? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        AMQPValue::LongInt(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}
