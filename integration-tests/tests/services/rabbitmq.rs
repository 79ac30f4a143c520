//! Tests of the RabbitMQ container.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use portcullis_integration_tests::{
    eventually,
    publisher::{EXCHANGE, Event, Publisher, declare_exchange},
    services::{RabbitMq, Redis},
};
use tokio::time::timeout;

const STREAM: &str = "stream-of-the-test";
/// The timeout after which an incomplete consumer retries.
const SILENCE: Duration = Duration::from_secs(5);

/// Declares a stream that receives everything that is published.
async fn declare_stream(channel: &Channel) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(STREAM.into(), options, arguments).await.unwrap();
    declare_exchange(channel).await.unwrap();
    channel
        .queue_bind(
            STREAM.into(),
            EXCHANGE.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
}

/// The first messages of the stream. A broker that has just started accepts connections, and
/// perhaps consumers, before its streams are available; it may never answer requests from that
/// time.
async fn first_messages(rabbitmq: &RabbitMq, number: usize) -> Vec<String> {
    eventually::some("the stream delivers its messages", async || {
        timeout(SILENCE, read(rabbitmq, number)).await.ok()?
    })
    .await
}

async fn read(rabbitmq: &RabbitMq, number: usize) -> Option<Vec<String>> {
    // A separate connection: an error closes the channel.
    let (_connection, channel) = rabbitmq.channel().await;
    // Streams require a prefetch limit.
    channel.basic_qos(100, BasicQosOptions::default()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let options = BasicConsumeOptions::default();
    let consumer =
        channel.basic_consume(STREAM.into(), "".into(), options, arguments).await.ok()?;
    let deliveries: Vec<_> = consumer.take(number).collect().await;
    let text =
        |delivery: lapin::Result<Delivery>| String::from_utf8(delivery.unwrap().data).unwrap();
    Some(deliveries.into_iter().map(text).collect())
}

#[tokio::test]
async fn a_stream_keeps_published_events_through_a_broker_kill() {
    let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), Redis::start());
    let publisher = Publisher::new(&rabbitmq.url(), redis.client()).patient();
    let (_connection, channel) = rabbitmq.channel().await;
    declare_stream(&channel).await;
    publisher.publish_raw(b"garbage").await;
    publisher.publish_all(&[Event::add_for_an_hour("a"), Event::remove("b")]).await;

    rabbitmq.written().await;
    rabbitmq.kill().await;
    assert!(rabbitmq.try_connect().await.is_err(), "it is gone");
    rabbitmq.restart().await;
    let stored = first_messages(&rabbitmq, 3).await;
    assert_eq!(stored[0], "garbage");
    assert!(stored[1].contains(r#""type": "add", "jti": "a""#));
    assert!(stored[2].contains(r#""type": "remove", "jti": "b""#));
    // For a while, a restarted broker confirms some messages that it does not store.
    let more = eventually::some("the stream gets what is published", async || {
        publisher.publish_raw(b"later").await;
        timeout(SILENCE, read(&rabbitmq, 4)).await.ok()?
    });
    let more = more.await;
    assert_eq!((&more[..3], &*more[3]), (&*stored, "later"));

    let queues = rabbitmq.queues().await;
    assert_eq!(queues.len(), 1);
    assert_eq!((&*queues[0].name, &*queues[0].kind), (STREAM, "stream"));
    rabbitmq.delete_queue(STREAM).await;
    assert_eq!(rabbitmq.queues().await, []);
}

#[tokio::test]
async fn a_paused_broker_is_silent_and_accepts_connections_after_a_close() {
    let rabbitmq = RabbitMq::start().await;
    rabbitmq.pause().await;
    assert!(rabbitmq.try_connect().await.is_err(), "a paused broker does not answer");
    rabbitmq.unpause().await;
    rabbitmq.ready().await;

    let (connection, channel) = rabbitmq.channel().await;
    rabbitmq.close_connections().await;
    eventually::holds("the connection is closed", || async {
        declare_exchange(&channel).await.is_err()
    })
    .await;
    assert!(!connection.status().connected());
    rabbitmq.ready().await;
}
