//! A session at the broker: events are read from one place on, until a connection breaks.
//!
//! There are two connections. In a memory or disk alarm, RabbitMQ stops reading from those that
//! publish, and goes on delivering to those that do not. So probes are published on one of their own.
//!
//! What has arrived and was not yet taken is bounded: the broker sends no more before earlier messages
//! are acknowledged.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    BasicProperties, Channel, Consumer, PublisherConfirm,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    address::Address,
    connect::{Link, answer},
    error::{BrokerError, Step},
    topology::{Names, seconds},
};
use crate::blacklist::config::{RabbitMqConfig, Topology};

/// How many messages may be on their way to us.
const PREFETCH: u16 = 1_000;
/// After so many messages the broker hears that they are done with; before, if none follows.
const ACK_EVERY: u32 = 250;
/// How long handing over a message of ours may take.
const SEND_LIMIT: Duration = Duration::from_secs(1);
/// Where the broker says which place in the stream a message has.
const OFFSET: &str = "x-stream-offset";

/// Where events are read. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    address: Address,
    names: Names,
    topology: Topology,
    replay: Duration,
    replica: String,
}

/// Where to begin reading a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// As far back as is configured.
    Replay,
    /// At this offset, or what comes closest to it.
    Offset(u64),
}

/// A bound queue, from which messages come.
pub(crate) struct Session {
    consumer: Consumer,
    incoming: Channel,
    /// For what is neither consumed nor published.
    control: Channel,
    outgoing: Channel,
    /// Where messages go that are no events, or why there is no such place.
    dead_letters: Result<ShortString, BrokerError>,
    queue: ShortString,
    has_offsets: bool,
    /// The last message that was taken, and how many are to be acknowledged with it.
    taken: Option<(u64, u32)>,
    names: Names,
    link: Arc<Link>,
    /// The connection that publishes.
    sender: Link,
}

/// What came from the queue.
pub(crate) struct Message {
    /// Its place in the stream, if it is one.
    pub(crate) offset: Option<u64>,
    /// What it holds.
    pub(crate) body: Vec<u8>,
}

// === impl Broker ===

impl Broker {
    /// `replica` is what this replica is called at the broker.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub(crate) fn new(config: &RabbitMqConfig, replica: &str) -> Result<Self, BrokerError> {
        Ok(Self {
            address: Address::new(config)?,
            names: Names::new(config)?,
            topology: config.topology,
            replay: config.replay.get(),
            replica: replica.to_owned(),
        })
    }

    /// Connects and makes sure that whatever is published once this has returned will be delivered,
    /// and what was published since `from`.
    ///
    /// # Errors
    /// When the broker is away, or something is not as it must be there.
    pub(crate) async fn bind(self, from: From) -> Result<Session, BrokerError> {
        let name = format!("portcullis {}", self.replica);
        let sender_name = format!("{name} probes");
        let (link, sender) = tokio::try_join!(
            Link::open(&self.address, &name),
            Link::open(&self.address, &sender_name),
        )?;
        self.names.declare(&link).await?;
        let dead_letters = self.dead_letters(&link).await;
        let incoming = link.channel().await?;
        let control = link.channel().await?;
        let outgoing = sender.channel().await?;
        let confirming = outgoing.confirm_select(ConfirmSelectOptions::default());
        answer(confirming).await?.map_err(|error| BrokerError::Lost(error.to_string()))?;
        let at = |error| BrokerError::at(Step::Consume, &error);
        answer(incoming.basic_qos(PREFETCH, BasicQosOptions::default())).await?.map_err(at)?;
        let mut arguments = FieldTable::default();
        let queue = match self.topology {
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
        Ok(Session {
            consumer,
            incoming,
            control,
            outgoing,
            dead_letters,
            queue,
            has_offsets: self.topology == Topology::Stream,
            taken: None,
            names: self.names,
            link: Arc::new(link),
            sender,
        })
    }

    /// Made before it is needed: where it is refused, messages must not wait for that again and again.
    async fn dead_letters(&self, link: &Link) -> Result<ShortString, BrokerError> {
        // On a channel of its own, because a refusal closes it.
        self.names.declare_dead_letters(&link.channel().await?).await?;
        Ok(self.names.dead_letters.clone())
    }

    fn position(&self, from: From) -> AMQPValue {
        match from {
            From::Replay if self.replay.is_zero() => AMQPValue::LongString("next".into()),
            From::Replay => AMQPValue::LongString(seconds(self.replay).into()),
            From::Offset(offset) => {
                AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))
            }
        }
    }
}

// === impl Session ===

impl Session {
    /// The next message. Loses none if it is dropped before it resolves.
    ///
    /// # Errors
    /// When there will be no more.
    pub(crate) async fn next(&mut self) -> Result<Message, BrokerError> {
        if self.owes_acknowledgement() {
            self.acknowledge().await?;
        }
        // From here on nothing is waited for once a message is in hand.
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

    /// Sends a message through the broker to ourselves, behind everything that has been published.
    /// What it returns resolves when the broker has refused it, or taken it.
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

    /// Puts a message that is no event where people can look at it.
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

    /// Whether the broker takes no messages, because it has an alarm.
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
            let answered = tokio::time::timeout(SEND_LIMIT, declaring).await;
            let answered = answered.map_err(|_| BrokerError::Silent(SEND_LIMIT))?;
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
        match tokio::time::timeout(SEND_LIMIT, sending).await {
            Ok(sent) => sent.map_err(|error| BrokerError::Lost(error.to_string())),
            Err(_) => Err(BrokerError::Silent(SEND_LIMIT)),
        }
    }

    fn take(&mut self, next: Option<lapin::Result<Delivery>>) -> Result<Message, BrokerError> {
        let delivery = next
            .ok_or(BrokerError::Cancelled)?
            .map_err(|error| BrokerError::at(Step::Consume, &error))?;
        let offset = offset(&delivery);
        if self.has_offsets && offset.is_none() {
            // An old broker took what we asked for and made an ordinary queue of it.
            return Err(BrokerError::no_streams());
        }
        let count = self.taken.map_or(0, |(_, count)| count) + 1;
        self.taken = Some((delivery.delivery_tag, count));
        Ok(Message { offset, body: delivery.data })
    }

    fn owes_acknowledgement(&self) -> bool {
        self.taken.is_some_and(|(_, count)| count >= ACK_EVERY)
    }

    /// Tells the broker that everything taken so far is done with.
    async fn acknowledge(&mut self) -> Result<(), BrokerError> {
        let Some((tag, _)) = self.taken.take() else { return Ok(()) };
        let acknowledging = self.incoming.basic_ack(tag, BasicAckOptions { multiple: true });
        match tokio::time::timeout(SEND_LIMIT, acknowledging).await {
            Ok(sent) => sent.map_err(|error| BrokerError::Lost(error.to_string())),
            Err(_) => Err(BrokerError::Silent(SEND_LIMIT)),
        }
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

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("offset", &self.offset)
            .field("bytes", &self.body.len())
            .finish()
    }
}
