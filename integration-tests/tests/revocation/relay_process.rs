//! Relay processes and revoke commands for tests, and the events that the broker received.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test reports")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use futures_util::StreamExt;
use lapin::{
    Connection, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::{Config, Portcullis, command, failing_command},
    ports::Port,
    process::Process,
    publisher::{EXCHANGE, declare_exchange},
    services::{RabbitMq, Redis},
    token::Claims,
};
use serde_json::Value;
use tempfile::TempDir;

/// Errors of a command for which the store, or a replica of the store, was too slow.
const TOO_SLOW: [&str; 3] = ["no answer within", "did not answer within", "confirmed it in time"];

/// Attempts at a receipt of a number of replicas: one without a heartbeat for three seconds does
/// not count, which a busy machine may cause.
const RECEIPTS: usize = 3;

/// A broker and a store for one test, with a configuration for them.
pub(crate) struct Services {
    pub(crate) rabbitmq: RabbitMq,
    pub(crate) redis: Redis,
}

/// A running relay. It is killed when this is dropped.
pub(crate) struct Relay {
    // Before the folder, so that the process has ended when its files are removed.
    process: Process,
    config: PathBuf,
    failpoints: String,
    admin: Port,
    folder: TempDir,
}

/// A consumer of everything that is published while it exists, in order.
pub(crate) struct Tap {
    consumer: Consumer,
    // The consumer ends when it is dropped.
    _connection: Connection,
}

// === impl Services ===

impl Services {
    pub(crate) async fn start() -> Self {
        let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), Redis::start());
        Self { rabbitmq, redis }
    }

    /// A configuration for replicas, relays and commands.
    pub(crate) fn config(&self) -> Config {
        Config::new([])
            .with("blacklist.rabbitmq.url", self.rabbitmq.url())
            .with("blacklist.redis.url", self.redis.url())
            .with("blacklist.redis.connect_timeout", "5s")
            .with("blacklist.skew", "7s")
            .with("shutdown.grace", "0s")
    }

    /// Runs `portcullis revoke`.
    pub(crate) async fn revoke(&self, arguments: &[&str]) -> Output {
        revoke(&self.config(), arguments).await
    }

    /// Runs `portcullis revoke`, which must succeed, and returns its output.
    pub(crate) async fn revoked(&self, arguments: &[&str]) -> String {
        let output = self.revoke(arguments).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The length of the outbox.
    pub(crate) async fn backlog(&self) -> u64 {
        self.redis.client().command(&["LLEN", "outbox:blacklist"]).await
    }
}

/// Runs `portcullis revoke` with a configuration, and again if the store was too slow, which a busy
/// machine may cause.
pub(crate) async fn revoke(config: &Config, arguments: &[&str]) -> Output {
    for _ in 0..2 {
        let output = revoke_once(config, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if !TOO_SLOW.iter().any(|words| error.contains(words)) {
            return output;
        }
    }
    revoke_once(config, arguments).await
}

async fn revoke_once(config: &Config, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command();
    command.arg("revoke").arg("--config").arg(config.write(folder.path())).args(arguments);
    let run = tokio::task::spawn_blocking(move || {
        let output = command.output().unwrap();
        drop(folder);
        output
    });
    run.await.unwrap()
}

/// The output of `portcullis revoke --wait` with these arguments. It must succeed.
pub(crate) async fn waited(config: &Config, arguments: &[&str]) -> String {
    let waiting = [arguments, &["--wait", "--timeout", "20s"]].concat();
    let output = revoke(config, &waiting).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `portcullis revoke --wait` with these arguments, until its receipt begins as `expected`.
pub(crate) async fn confirmed(config: &Config, arguments: &[&str], expected: &str) {
    eventually::succeeds(RECEIPTS, expected, async || {
        let printed = waited(config, arguments).await;
        if printed.starts_with(expected) { Ok(()) } else { Err(printed) }
    })
    .await;
}

/// Revokes a token, and others until there is a receipt of so many replicas. Returns the claims of
/// the last one.
pub(crate) async fn revoked_at(config: &Config, replicas: usize) -> Claims {
    let expected = format!("revoked: applied by {replicas} replicas after ");
    eventually::succeeds(RECEIPTS, &expected, async || {
        let claims = Claims::default();
        let printed = waited(config, &["--jti", claims.jti()]).await;
        eprint!("{printed}");
        if printed.starts_with(&expected) { Ok(claims) } else { Err(printed) }
    })
    .await
}

/// Sends a request to the admin API until its answer, with this status, is a receipt of two
/// replicas.
pub(crate) async fn receipt_of_two(replica: &Portcullis, request: &Request, status: u16) -> Value {
    eventually::succeeds(RECEIPTS, "a receipt of two replicas", async || {
        let answer = replica.admin().call(request.clone()).await;
        let is_complete = answer.status == status && answer.json()["replicas"] == 2;
        if is_complete { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await
}

// === impl Relay ===

impl Relay {
    /// Starts it and waits until it is connected.
    pub(crate) async fn start(config: &Config) -> Self {
        let mut relay = Self::launch(config);
        relay.ready().await;
        relay
    }

    /// Starts it.
    pub(crate) fn launch(config: &Config) -> Self {
        Self::launch_with(config, "")
    }

    /// Starts it with a failpoint.
    pub(crate) fn launch_with(config: &Config, failpoints: &str) -> Self {
        let failpoints = failpoints.to_owned();
        let folder = tempfile::tempdir().unwrap();
        let admin = Port::reserve();
        let config = config.clone().with("admin.listen", admin.address().to_string());
        let config = config.write(folder.path());
        let process = Process::start("relay", relay_command(&config, &failpoints), folder.path());
        Self { process, config, failpoints, admin, folder }
    }

    pub(crate) async fn ready(&mut self) {
        eventually::holds("the relay is connected", || {
            self.process.assert_running();
            is_ready(self.admin())
        })
        .await;
    }

    pub(crate) async fn is_ready(&self) -> bool {
        is_ready(self.admin()).await
    }

    /// Kills it, as a crash would, and restarts it.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let command = relay_command(&self.config, &self.failpoints);
        self.process = Process::start("relay", command, self.folder.path());
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All its metrics, once it listens.
    pub(crate) async fn metrics(&self) -> Option<String> {
        let response = Request::get("/metrics").try_send(self.admin()).await;
        response.ok().map(|response| response.text())
    }

    /// One of its metrics.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line?.parse().ok()
    }

    pub(crate) async fn is_leader(&self) -> bool {
        self.metric("portcullis_relay_leader").await == Some(1.0)
    }

    fn admin(&self) -> SocketAddr {
        self.admin.address()
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let response = Request::get("/readyz").try_send(admin).await;
    response.is_ok_and(|response| response.status == 200)
}

fn relay_command(config: &Path, failpoints: &str) -> Command {
    let mut relay = if failpoints.is_empty() { command() } else { failing_command(failpoints) };
    relay.arg("relay").arg("--config").arg(config);
    relay
}

// === impl Tap ===

impl Tap {
    pub(crate) async fn open(rabbitmq: &RabbitMq) -> Self {
        let (connection, channel) = rabbitmq.channel().await;
        declare_exchange(&channel).await.unwrap();
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        let name = queue.name().clone();
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(name.clone(), EXCHANGE.into(), "".into(), options, arguments)
            .await
            .unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(name, "".into(), options, FieldTable::default()).await.unwrap();
        Self { consumer, _connection: connection }
    }

    /// All messages of a stream, from the first one on. A broker that has just started accepts
    /// connections before its streams are available.
    pub(crate) async fn of_stream(rabbitmq: &RabbitMq, name: &str) -> Self {
        eventually::some("the stream can be read", async || {
            let (connection, channel) = rabbitmq.channel().await;
            // Streams require a prefetch limit, and acknowledgements, which are not needed below
            // the limit.
            channel.basic_qos(1_000, BasicQosOptions::default()).await.unwrap();
            let mut arguments = FieldTable::default();
            arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(name.into(), "".into(), options, arguments).await;
            consumer.ok().map(|consumer| Self { consumer, _connection: connection })
        })
        .await
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> String {
        let next = tokio::time::timeout(eventually::PATIENCE, self.consumer.next()).await;
        let delivery = next.expect("something is published").unwrap().unwrap();
        String::from_utf8(delivery.data).unwrap()
    }
}
