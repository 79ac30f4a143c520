//! RabbitMQ container for one test.

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde::Deserialize;

use super::{
    container::{Container, Setup},
    images::IMAGES,
};
use crate::{eventually, ports::Port};

/// Its administrator. The password guards nothing.
pub const USER: &str = "portcullis";
/// The administrator's password.
pub const PASSWORD: &str = "a-password-of-the-tests";
/// The port of RabbitMQ inside its container.
const INSIDE: u16 = 5672;
/// Its start takes seconds of processor time, and tests run in parallel.
const PATIENCE: Duration = Duration::from_mins(5);
/// The timeout of a connection that is not certain; a paused broker accepts none.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A running RabbitMQ. It is removed when this is dropped.
#[derive(Debug)]
pub struct RabbitMq {
    // Before the port, which others may take as soon as it is dropped.
    container: Container,
    port: Port,
}

/// A queue, as RabbitMQ lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Queue {
    /// Name.
    pub name: String,
    /// `classic`, `stream`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Messages in it.
    pub messages: u64,
    /// Its consumers.
    pub consumers: u64,
}

// === impl RabbitMq ===

impl RabbitMq {
    /// Starts it and waits until it accepts connections.
    pub async fn start() -> Self {
        let port = Port::reserve();
        let container = node_setup("rabbit", INSIDE, "").publish([(&port, INSIDE)]).start().await;
        let rabbitmq = Self { container, port };
        rabbitmq.ready().await;
        rabbitmq
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its URL, with the administrator's password.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.address())
    }

    /// Waits until it accepts connections.
    ///
    /// # Panics
    /// When it ends instead, or does not in time.
    pub async fn ready(&self) {
        eventually::holds_within(PATIENCE, "RabbitMQ accepts connections", || async {
            self.container.assert_running().await;
            self.try_connect().await.is_ok()
        })
        .await;
    }

    /// A connection of the administrator.
    ///
    /// # Errors
    /// When RabbitMQ is unavailable, or stays silent.
    pub async fn try_connect(&self) -> lapin::Result<Connection> {
        connect(&self.url(), TIMEOUT).await
    }

    /// A channel on its own connection, which lasts as long as the pair.
    ///
    /// # Panics
    /// When RabbitMQ is unavailable.
    pub async fn channel(&self) -> (Connection, Channel) {
        let connection = connect(&self.url(), PATIENCE).await;
        let connection = connection.expect("RabbitMQ accepts connections");
        let channel = connection.create_channel().await.expect("RabbitMQ opens channels");
        (connection, channel)
    }

    /// The queues of the default virtual host, in the order of their names.
    pub async fn queues(&self) -> Vec<Queue> {
        let columns = ["name", "type", "messages", "consumers"];
        let command = ["rabbitmqctl", "--quiet", "list_queues", "--formatter", "json"];
        let list = self.container.exec(&[&command[..], &columns[..]].concat()).await;
        let mut queues: Vec<Queue> =
            serde_json::from_str(&list).unwrap_or_else(|error| panic!("{error}: {list}"));
        queues.sort_by(|left, right| left.name.cmp(&right.name));
        queues
    }

    /// Deletes a queue with all its messages.
    pub async fn delete_queue(&self, name: &str) {
        let (_connection, channel) = self.channel().await;
        channel
            .queue_delete(name.into(), QueueDeleteOptions::default())
            .await
            .expect("RabbitMQ deletes queues");
    }

    /// The offset of the oldest message of a stream, which must not be empty.
    pub async fn first_offset(&self, stream: &str) -> u64 {
        let (_connection, channel) = self.channel().await;
        // A stream cannot be read without a prefetch limit.
        channel
            .basic_qos(1, BasicQosOptions::default())
            .await
            .expect("RabbitMQ accepts a prefetch limit");
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(stream.into(), "".into(), options, arguments).await;
        let mut consumer = consumer.expect("the stream can be read");
        let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let delivery = delivery.expect("there is a message").expect("the stream is not deleted");
        let properties = delivery.expect("it is delivered").properties;
        match properties.headers().as_ref().and_then(|all| all.inner().get("x-stream-offset")) {
            Some(AMQPValue::LongLongInt(offset)) => {
                u64::try_from(*offset).expect("an offset is not negative")
            }
            other => unreachable!("messages of a stream have an offset, not {other:?}"),
        }
    }

    /// Deletes an exclusive queue, as an administrator can.
    pub async fn delete_exclusive_queue(&self, name: &str) {
        self.container.exec(&["rabbitmqctl", "--quiet", "delete_queue", name]).await;
    }

    /// Unbinds a queue from an exchange, so that it receives no more messages from there.
    ///
    /// # Panics
    /// When RabbitMQ refuses.
    pub async fn unbind(&self, queue: &str, exchange: &str) {
        let (_connection, channel) = self.channel().await;
        let table = FieldTable::default();
        let unbinding = channel.queue_unbind(queue.into(), exchange.into(), "".into(), table);
        unbinding.await.expect("RabbitMQ unbinds queues");
    }

    /// Raises the disk alarm, in which RabbitMQ accepts no messages.
    pub async fn raise_alarm(&self) {
        self.set_disk_limit("1000000000000000").await;
    }

    /// Ends the disk alarm.
    pub async fn clear_alarm(&self) {
        self.set_disk_limit("1000000").await;
    }

    async fn set_disk_limit(&self, limit: &str) {
        let command = ["rabbitmqctl", "--quiet", "set_disk_free_limit", limit];
        self.container.exec(&command).await;
    }

    /// Restricts the write permission of the user to `writable`, a regular expression. It applies
    /// to channels that are opened from now on.
    pub async fn restrict_writing(&self, writable: &str) {
        let command = ["rabbitmqctl", "--quiet", "set_permissions", USER, ".*", writable, ".*"];
        self.container.exec(&command).await;
    }

    /// Closes every connection from its side, as an administrator can.
    pub async fn close_connections(&self) {
        let reason = "closed by a test";
        self.container.exec(&["rabbitmqctl", "--quiet", "close_all_connections", reason]).await;
    }

    /// Makes RabbitMQ write its list of streams to disk now, which it else does within a second. A
    /// stream that was declared just before a kill is lost for good, and reported as "down or
    /// inaccessible".
    pub async fn written(&self) {
        let write = "[ok = dets:sync(Table) || Table <- dets:all()].";
        self.container.exec(&["rabbitmqctl", "--quiet", "eval", write]).await;
    }

    /// Makes RabbitMQ reject larger messages, on channels that are opened from now on.
    pub async fn limit_message_size(&self, bytes: usize) {
        // Which of the two it reads depends on the version.
        let limit = format!(
            "application:set_env(rabbit, max_message_size, {bytes}), \
             persistent_term:put(max_message_size, {bytes})."
        );
        self.container.exec(&["rabbitmqctl", "--quiet", "eval", &limit]).await;
    }

    /// Kills it with SIGKILL. Durable queues and streams keep confirmed messages.
    pub async fn kill(&self) {
        self.container.kill().await;
    }

    /// Restarts it on the same port, with its data, without waiting for it.
    pub async fn begin_restart(&self) {
        self.container.start_again().await;
    }

    /// Restarts it on the same port, with its data, and waits until it accepts connections.
    pub async fn restart(&self) {
        self.begin_restart().await;
        self.ready().await;
    }

    /// Pauses it: connections stay open, and are silent.
    pub async fn pause(&self) {
        self.container.pause().await;
    }

    /// Resumes it.
    pub async fn unpause(&self) {
        self.container.unpause().await;
    }

    /// Its log so far.
    pub async fn output(&self) -> String {
        self.container.output().await
    }
}

/// A node with this name, which listens on this port; with more lines of its configuration.
///
/// The name does not depend on the host's, because it is part of the data path.
pub(super) fn node_setup(name: &str, port: u16, lines: &str) -> Setup {
    // Debian has the program twice; the one on the path would hide the log. Nodes of a cluster share
    // a cookie.
    let script = "umask 077; printf cookie-of-the-tests >/tmp/cookie; \
                  mv -f /tmp/cookie ~/.erlang.cookie; PATH=\"/usr/lib/rabbitmq/bin:$PATH\"; printf '%s\\n' \"default_user = $RABBIT_USER\" \
                  \"default_pass = $RABBIT_PASSWORD\" 'loopback_users = none' \
                  \"listeners.tcp.default = $PORT\" \"$MORE_LINES\" >/tmp/rabbitmq.conf; \
                  exec rabbitmq-server";
    Setup::new("rabbitmq", &IMAGES.rabbitmq, script)
        .user("rabbitmq")
        .env("RABBIT_USER", USER)
        .env("RABBIT_PASSWORD", PASSWORD)
        .env("PORT", &port.to_string())
        .env("MORE_LINES", lines)
        .env("RABBITMQ_NODENAME", &format!("{name}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", "/tmp/rabbitmq.conf")
        .env("RABBITMQ_LOGS", "-")
}

/// The URL of the RabbitMQ behind an address, such as that of a [`Link`](super::Link), with the
/// administrator's password.
#[must_use]
pub fn url(address: SocketAddr) -> String {
    format!("amqp://{USER}:{PASSWORD}@{address}/%2f")
}

/// Connects to a broker, which must answer in time.
///
/// # Errors
/// When the broker is unavailable, or stays silent.
pub async fn connect(url: &str, limit: Duration) -> lapin::Result<Connection> {
    let connecting = Connection::connect(url, ConnectionProperties::default());
    tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(timed_out()))
}

/// A broker did not answer in time.
pub(crate) fn timed_out() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
