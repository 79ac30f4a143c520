//! The broker and the session of the driver in tests: those of RabbitMQ, or scripted ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    broker::UNDER_WAY,
    world::{Net, World},
};
use crate::{
    config::RabbitMqConfig,
    rabbitmq::{self, BrokerError, Message, StartAt},
    source::stream::sabotage::{self, Sabotage},
};

/// See [`rabbitmq::Broker`].
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(in crate::source::stream) enum Broker {
    RabbitMq(rabbitmq::Broker),
    Simulated(Arc<Net>),
}

/// See [`rabbitmq::BrokerSession`].
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(in crate::source::stream) enum BrokerSession {
    RabbitMq(rabbitmq::BrokerSession),
    Simulated(Consumer),
}

/// A session with the scripted broker.
pub(in crate::source::stream) struct Consumer {
    net: Arc<Net>,
    number: u64,
    opened: Instant,
    /// The offset that is delivered next.
    next: usize,
    /// Whether something was sent: only such a connection is notified of an alarm.
    has_sent: AtomicBool,
}

type Outcome = Result<(), BrokerError>;

/// As long as the client of RabbitMQ waits for one answer, and for one message to go out.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const SEND_LIMIT: Duration = Duration::from_secs(2);

// === impl Broker ===

impl Broker {
    pub(in crate::source::stream) fn new(
        config: &RabbitMqConfig,
        replica: &str,
    ) -> Result<Self, BrokerError> {
        rabbitmq::Broker::new(config, replica).map(Self::RabbitMq)
    }

    pub(in crate::source::stream) async fn bind(
        self,
        from: StartAt,
    ) -> Result<BrokerSession, BrokerError> {
        match self {
            Self::RabbitMq(broker) => {
                Box::pin(broker.bind(from)).await.map(BrokerSession::RabbitMq)
            }
            Self::Simulated(net) => Consumer::open(net, from).await.map(BrokerSession::Simulated),
        }
    }
}

// === impl BrokerSession ===

impl BrokerSession {
    pub(in crate::source::stream) async fn next(&mut self) -> Result<Message, BrokerError> {
        match self {
            Self::RabbitMq(session) => session.next().await,
            Self::Simulated(consumer) => consumer.next().await,
        }
    }

    pub(in crate::source::stream) async fn next_at_hand(
        &mut self,
    ) -> Option<Result<Message, BrokerError>> {
        match self {
            Self::RabbitMq(session) => session.next_at_hand().await,
            Self::Simulated(consumer) => consumer.at_hand().ok(),
        }
    }

    pub(in crate::source::stream) async fn send_to_self(
        &self,
        body: &[u8],
    ) -> Result<BoxFuture<'static, Outcome>, BrokerError> {
        match self {
            Self::RabbitMq(session) => Ok(session.send_to_self(body).await?.boxed()),
            Self::Simulated(consumer) => consumer.send(body),
        }
    }

    pub(in crate::source::stream) async fn dead_letter(&self, message: &Message) -> Outcome {
        match self {
            Self::RabbitMq(session) => session.dead_letter(message).await,
            Self::Simulated(_) => Ok(()),
        }
    }

    pub(in crate::source::stream) fn is_blocked(&self) -> bool {
        match self {
            Self::RabbitMq(session) => session.is_blocked(),
            Self::Simulated(consumer) => consumer.is_blocked(),
        }
    }

    pub(in crate::source::stream) fn liveness(&self) -> BoxFuture<'static, Outcome> {
        match self {
            Self::RabbitMq(session) => session.liveness().boxed(),
            Self::Simulated(consumer) => consumer.ask(SEND_LIMIT, |_| {}),
        }
    }

    pub(in crate::source::stream) fn declare(&self) -> BoxFuture<'static, Outcome> {
        match self {
            Self::RabbitMq(session) => session.declare().boxed(),
            Self::Simulated(consumer) => consumer.ask(ANSWER_LIMIT, |world| world.broker.declare()),
        }
    }

    pub(in crate::source::stream) async fn close(self) {
        if let Self::RabbitMq(session) = self {
            session.close().await;
        }
    }
}

// === impl Consumer ===

impl Consumer {
    async fn open(net: Arc<Net>, from: StartAt) -> Result<Self, BrokerError> {
        sleep(5 * UNDER_WAY).await;
        let reached = |world: &World| world.broker.up && world.broker.linked;
        if !reached(&net.world()) {
            return Err(BrokerError::Lost("simulated".to_owned()));
        }
        let answered = timeout(ANSWER_LIMIT, net.until(|world| !world.broker.silent)).await;
        answered.map_err(|_| BrokerError::Silent(ANSWER_LIMIT))?;
        net.world().broker.declare();
        sleep(UNDER_WAY).await;
        let mut world = net.world();
        if !reached(&world) {
            return Err(BrokerError::Lost("simulated".to_owned()));
        }
        let broker = &mut world.broker;
        broker.declare();
        broker.unread.clear();
        broker.sessions += 1;
        broker.session = Some(broker.sessions);
        let (number, end) = (broker.sessions, broker.stream.as_ref().map_or(0, Vec::len));
        let begin = match from {
            // Less is published in a simulation than is replayed.
            StartAt::Replay => 0,
            // Beyond the end, the broker silently takes what comes closest.
            StartAt::Offset(offset) => usize::try_from(offset).unwrap_or(usize::MAX).min(end),
        };
        drop(world);
        let has_sent = AtomicBool::new(false);
        Ok(Self { net, number, opened: Instant::now(), next: begin, has_sent })
    }

    async fn next(&mut self) -> Result<Message, BrokerError> {
        let net = Arc::clone(&self.net);
        loop {
            let changed = net.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let due = match self.at_hand() {
                Ok(message) => return message,
                Err(due) => due,
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// The next message or the end, or when there is going to be one, if that is known.
    fn at_hand(&mut self) -> Result<Result<Message, BrokerError>, Option<Instant>> {
        let mut world = self.net.world();
        let now = world.now();
        let broker = &mut world.broker;
        if broker.session != Some(self.number) {
            let lost = || BrokerError::Lost("simulated".to_owned());
            return Ok(Err(if broker.cancelled { BrokerError::Cancelled } else { lost() }));
        }
        if broker.silent {
            return Err(None);
        }
        let entry = broker.stream.as_ref().and_then(|stream| stream.get(self.next)).ok_or(None)?;
        let due = entry.due.max(self.opened + UNDER_WAY);
        if due > Instant::now() {
            return Err(Some(due));
        }
        let (body, event) = (entry.body.clone(), entry.event);
        broker.handed.extend(event.map(|event| (event, now)));
        let offset = Some(self.next as u64);
        self.next += 1;
        Ok(Ok(Message { offset, body }))
    }

    fn send(&self, body: &[u8]) -> Result<BoxFuture<'static, Outcome>, BrokerError> {
        self.has_sent.store(true, Relaxed);
        let mut world = self.net.world();
        if world.broker.session != Some(self.number) {
            return Err(BrokerError::Lost("simulated".to_owned()));
        }
        world.broker.unread.push(body.to_vec());
        let now = world.now();
        world.broker.read(now);
        drop(world);
        self.net.changed.notify_waiters();
        Ok(self.ask(ANSWER_LIMIT, |_| {}))
    }

    /// The broker sends word of an alarm over the connection that publishes. Over one that is
    /// shared it would come too late: behind what the broker does not read.
    fn is_blocked(&self) -> bool {
        let alarm = self.net.world().broker.alarm && self.has_sent.load(Relaxed);
        alarm && !sabotage::is_on(Sabotage::SharedConnection)
    }

    /// Something that the broker does and answers.
    fn ask(
        &self,
        limit: Duration,
        what: impl FnOnce(&mut World) + Send + 'static,
    ) -> BoxFuture<'static, Outcome> {
        let (net, number) = (Arc::clone(&self.net), self.number);
        async move {
            sleep(UNDER_WAY).await;
            let answers = |world: &World| !world.broker.silent;
            let answered = timeout(limit, net.until(answers)).await;
            answered.map_err(|_| BrokerError::Silent(limit))?;
            let mut world = net.world();
            if world.broker.session != Some(number) {
                return Err(BrokerError::Lost("simulated".to_owned()));
            }
            what(&mut world);
            Ok(())
        }
        .boxed()
    }
}
