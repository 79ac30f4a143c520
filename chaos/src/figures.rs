//! Figures that need a special state: a long outage, a large store, or idle replicas.
//!
//! They are not measured in a run, because other work would disturb them.

use std::{
    array, fmt, slice,
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_integration_tests::{
    eventually,
    publisher::{Event, Publisher},
    services::RedisClient,
};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    history::Verdict,
    moment::Clock,
    plan::{Plan, REPLICAS, Scale},
    propagation::Times,
    workload::{Asker, Board},
};

/// The measured figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// How long all replicas took to resync after an outage in which events were published.
    pub resync: Option<Resync>,
    /// How long a replica took from its start to readiness.
    pub start: Option<Start>,
    /// The same directly after the flood, which it must replay.
    pub start_after_flood: Option<Start>,
    /// Redis calls per check while there is no fault.
    pub redis_calls_per_check: Option<f64>,
    /// How long single revocations took on idle replicas.
    pub propagation: Option<Times>,
    /// How long it took until all replicas had applied a flood.
    pub flood: Option<Flood>,
}

/// The resync after an outage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resync {
    /// How long it lasted.
    pub outage: Duration,
    /// Events that were published during the outage.
    pub events: usize,
    /// From the end of the outage until all replicas were live.
    pub took: Duration,
    /// Revocations that a live replica did not have.
    pub missed: usize,
}

/// A start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Entries in the store.
    pub entries: usize,
    /// Recent events in the stream, none of which is in the store.
    pub replayed: usize,
    /// From the start of the process to readiness.
    pub took: Duration,
}

/// A flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// Events.
    pub events: usize,
    /// From the first send until all replicas had applied the last event.
    pub took: Duration,
    /// Processor time that one replica needed for it.
    pub processor_time: Duration,
}

/// The sizes of the measurements.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How long the outage lasts.
    pub outage: Duration,
    /// Events that are published in it.
    pub missed: usize,
    /// Entries in the store at a start.
    pub entries: usize,
    /// Events of the flood.
    pub flood: usize,
    /// Revocations that are made one after the other.
    pub revocations: usize,
    /// Checks while Redis is watched.
    pub checks: usize,
}

/// Events per batch of a publisher.
const BATCH: usize = 10_000;
/// Longer than the delay before an un-revocation is verified.
const QUIET: Duration = Duration::from_secs(2);
/// Generous, for a large store.
const PATIENCE: Duration = Duration::from_mins(5);
/// Between two looks at the logs.
const PAUSE: Duration = Duration::from_millis(50);
/// How often Redis calls are counted, because a busy machine may disturb a count.
const PASSES: usize = 5;

// === impl Size ===

impl Size {
    /// For `make chaos`.
    #[must_use]
    pub const fn long() -> Self {
        Self {
            outage: Duration::from_secs(30),
            missed: 10_000,
            entries: 1_000_000,
            flood: 1_000_000,
            revocations: 1000,
            checks: 30_000,
        }
    }

    /// For `make test`: the same measurements, within seconds.
    #[must_use]
    pub const fn short() -> Self {
        Self {
            outage: Duration::from_secs(3),
            missed: 2000,
            entries: 20_000,
            flood: 20_000,
            revocations: 50,
            checks: 2000,
        }
    }
}

// === impl Figures ===

impl Figures {
    /// Measures everything, one after the other.
    ///
    /// # Panics
    /// If something does not recover.
    pub async fn measure(cluster: &mut Cluster, size: &Size) -> Self {
        cluster.recovered().await;
        let redis_calls_per_check = Some(redis_calls_per_check(cluster, size).await);
        let propagation = Some(propagation(cluster, size).await);
        let start_alone = Some(start(cluster, size, 0).await);
        let resync = Some(resync(cluster, size).await);
        let flood = Some(flood(cluster, size).await);
        let start_after_flood = Some(start(cluster, size, size.flood).await);
        let start = start_alone;
        Self { resync, start, start_after_flood, redis_calls_per_check, propagation, flood }
    }

    /// The figures as JSON, by name.
    #[must_use]
    pub fn json(&self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        let mut put = |name: String, value: Value| all.push((name, value));
        if let Some(Resync { events, took, missed, .. }) = self.resync {
            put(format!("resync_{}_ms", short(events)), json!(took.as_millis()));
            put(format!("resync_{}_missed", short(events)), json!(missed));
        }
        if let Some(Start { entries, took, .. }) = self.start {
            put(format!("start_{}_ms", short(entries)), json!(took.as_millis()));
        }
        if let Some(Start { entries, replayed, took }) = self.start_after_flood {
            let name = format!("start_{}_and_replay_{}_ms", short(entries), short(replayed));
            put(name, json!(took.as_millis()));
        }
        if let Some(flood @ Flood { events, took, .. }) = self.flood {
            put(format!("flood_{}_ms", short(events)), json!(took.as_millis()));
            put("processor_us_per_event".to_owned(), json!(flood.micros_per_event()));
        }
        if let Some(calls) = self.redis_calls_per_check {
            put("redis_calls_per_check".to_owned(), json!(calls));
        }
        if let Some(times) = &self.propagation {
            put("propagation_alone_ms".to_owned(), times.json());
        }
        all
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Resync { outage, events, took, missed }) = self.resync {
            let what = format!("resync after {outage:?}, {events} events");
            writeln!(out, "{what:<44}{:>8} ms, {missed} missed", took.as_millis())?;
        }
        if let Some(Start { entries, took, .. }) = self.start {
            let what = format!("start with {entries} entries, to ready");
            writeln!(out, "{what:<44}{:>8} ms", took.as_millis())?;
        }
        if let Some(Start { replayed, took, .. }) = self.start_after_flood {
            let what = format!("the same, and {replayed} events to replay");
            writeln!(out, "{what:<44}{:>8} ms", took.as_millis())?;
        }
        if let Some(flood @ Flood { events, took, .. }) = self.flood {
            let what = format!("{events} events, until all are applied");
            writeln!(out, "{what:<44}{:>8} ms", took.as_millis())?;
            let per_event = flood.micros_per_event();
            writeln!(out, "{:<44}{per_event:>8.1} us", "processor time of a replica, each event")?;
        }
        if let Some(calls) = self.redis_calls_per_check {
            writeln!(out, "{:<44}{calls:>8}", "Redis calls per check, without a fault")?;
        }
        if let Some(times) = &self.propagation {
            let what = format!("published -> denied on all, {} times, alone", times.count());
            let [p50, p99, max] = [times.quantile(0.5), times.quantile(0.99), times.max()];
            writeln!(out, "{what:<44} p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")?;
        }
        writeln!(out)
    }
}

// === impl Flood ===

impl Flood {
    /// Processor time of one replica for each event, in microseconds.
    #[must_use]
    pub fn micros_per_event(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "some millions of events")]
        let events = self.events.max(1) as f64;
        self.processor_time.as_secs_f64() * 1e6 / events
    }
}

/// `10k`, `1m`: a count in the name of a figure.
fn short(count: usize) -> String {
    match count {
        _ if count > 0 && count.is_multiple_of(1_000_000) => format!("{}m", count / 1_000_000),
        _ if count > 0 && count.is_multiple_of(1000) => format!("{}k", count / 1000),
        _ => count.to_string(),
    }
}

fn events(name: &str, count: usize) -> impl Iterator<Item = Vec<Event>> {
    let event = move |name: &str, number| Event::add_for_an_hour(&format!("{name}-{number}"));
    let name = format!("{name}-{}", jiff::Timestamp::now().as_millisecond());
    (0..count.div_ceil(BATCH)).map(move |batch| {
        let end = count.min((batch + 1) * BATCH);
        (batch * BATCH..end).map(|number| event(&name, number)).collect()
    })
}

/// Cuts all links, publishes, restores the links, and counts the revocations that replicas miss.
async fn resync(cluster: &mut Cluster, size: &Size) -> Resync {
    let began = Instant::now();
    for ways in cluster.all_ways() {
        ways.broker.cut().await;
    }
    let mut names = Vec::new();
    for (batch, events) in events("resync", size.missed).enumerate() {
        cluster.publisher().publish_all(&events).await;
        let keys = events.iter().map(Event::key);
        let jti = |key: String| key.trim_start_matches("blacklist:").to_owned();
        names.extend(keys.map(jti));
        debug_assert_eq!(names.len().div_ceil(BATCH), batch + 1);
    }
    tokio::time::sleep(size.outage.saturating_sub(began.elapsed())).await;
    let restored = Instant::now();
    for ways in cluster.all_ways() {
        ways.broker.restore().await;
    }
    for replica in 0..REPLICAS {
        cluster.live(replica).await;
    }
    let took = restored.elapsed();
    let mut missed = 0;
    for (place, name) in names.iter().enumerate() {
        let known = cluster.admin(place % REPLICAS).is_revoked(name).await;
        missed += usize::from(!known);
    }
    Resync { outage: size.outage, events: size.missed, took, missed }
}

/// Publishes far more than can be applied at once, and waits until all of it is applied.
async fn flood(cluster: &mut Cluster, size: &Size) -> Flood {
    let began = Instant::now();
    let spent = |cluster: &mut Cluster| cluster.replica(0).get(0).processor_time();
    let spent_before = spent(cluster);
    for events in events("flood", size.flood) {
        cluster.publisher().publish_all(&events).await;
    }
    cluster.recovered().await;
    let took = began.elapsed();
    let processor_time = spent(cluster).saturating_sub(spent_before);
    Flood { events: size.flood, took, processor_time }
}

/// Fills the store, starts a replica, and empties the store again.
async fn start(cluster: &mut Cluster, size: &Size, replayed: usize) -> Start {
    let primary = cluster.primary().await;
    let client = cluster.redis.client(primary);
    let publisher = Publisher::new(&cluster.rabbitmq.url(), cluster.redis.client(primary));
    for events in events("start", size.entries) {
        publisher.store(&events).await;
    }
    // Replication to the other Redis and the rewrite of the append-only files are not part of the
    // start.
    let _: String = client.command(&["SET", "chaos:last", "written"]).await;
    eventually::holds_within(PATIENCE, "the store is replicated", async || {
        client.command::<u64>(&["WAIT", "1", "1000"]).await == 1
    })
    .await;
    for member in [primary, primary.other()] {
        let server = cluster.redis.client(member);
        let rests = async || !server.is_rewriting().await;
        eventually::holds_within(PATIENCE, "Redis has rewritten its append-only file", rests).await;
    }
    cluster.replica(0).kill(0);
    let began = Instant::now();
    cluster.replica(0).relaunch(0, |config| config).await;
    let admin = cluster.replica(0).get(0);
    eventually::holds_within(PATIENCE, "the replica is ready", || admin.is_ready()).await;
    let took = began.elapsed();
    let _: Option<String> = cluster.store().command(&["FLUSHALL"]).await;
    cluster.recovered().await;
    Start { entries: size.entries, replayed, took }
}

/// Revokes one token after the other, and checks each at all replicas until all deny it.
async fn propagation(cluster: &Cluster, size: &Size) -> Times {
    // Its own tokens.
    let plan = Plan::new(u64::MAX, &Scale::short());
    let board = Arc::new(Board::new(&plan));
    let grpc = cluster.endpoints().grpc;
    let mut askers: [Asker; REPLICAS] = array::from_fn(|replica| {
        Asker::new(replica, grpc[replica], Arc::clone(&board), Clock::begin())
    });
    let mut times = Times::new();
    for token in lasting(&plan).take(size.revocations) {
        let event = Event::add(&board.names().jti(token), board.names().expires_at());
        let began = Instant::now();
        let denied = async {
            for asker in &mut askers {
                while !matches!(asker.ask(token).await, Verdict::Deny(_)) {}
            }
            began.elapsed()
        };
        let denied = tokio::time::timeout(PATIENCE, denied);
        let publish = cluster.publisher().publish_all(slice::from_ref(&event));
        let (denied, ()) = tokio::join!(denied, publish);
        times.record(denied.expect("all replicas deny the token in time"));
    }
    times
}

/// The tokens of a plan that do not expire during a measurement.
fn lasting(plan: &Plan) -> impl Iterator<Item = usize> {
    (0..plan.tokens.len()).filter(|token| plan.tokens[*token].expires.is_none())
}

/// Checks good tokens at all replicas, each several times, and counts the Redis calls for them. This
/// is repeated if a replica stops trusting its set meanwhile, as after a pause.
async fn redis_calls_per_check(cluster: &mut Cluster, size: &Size) -> f64 {
    let plan = Plan::new(0, &Scale::short());
    let board = Arc::new(Board::new(&plan));
    let lasting: Vec<_> = lasting(&plan).collect();
    // The relay also reads the outbox.
    cluster.relay().kill();
    let client: RedisClient = cluster.redis.client(cluster.primary().await);
    // A second snapshot of the store may be pending. With an empty store, it queries no token.
    client.flush().await;
    let mut passes = 1;
    let (asked, calls) = loop {
        let losses = cluster.losses();
        for replica in 0..REPLICAS {
            cluster.live(replica).await;
        }
        let grpc = cluster.endpoints().grpc;
        // A replica that has started verifies each un-revocation that it replays, a second later.
        eventually::holds_within(PATIENCE, "no un-revocation is pending", || async {
            client.forget_calls().await;
            tokio::time::sleep(QUIET).await;
            lookups(&client).await == 0
        })
        .await;
        client.forget_calls().await;
        let (mut asked, mut refused) = (0_u32, None);
        for (replica, address) in grpc.into_iter().enumerate() {
            let mut prober = Asker::new(replica, address, Arc::clone(&board), Clock::begin());
            for number in 0..size.checks / REPLICAS {
                let verdict = prober.ask(lasting[number % lasting.len()]).await;
                refused = refused.or(Some(verdict).filter(|verdict| *verdict != Verdict::Allow));
                asked += 1;
            }
        }
        let calls = lookups(&client).await;
        let is_as_promised = calls == 0 && refused.is_none();
        if is_as_promised || passes == PASSES || !is_disturbed(cluster, losses).await {
            assert_eq!(refused, None, "no token is revoked");
            break (asked, calls);
        }
        passes += 1;
    };
    cluster.relay().restart(None);
    #[expect(clippy::cast_precision_loss, reason = "some thousands of calls")]
    let per_check = calls as f64 / f64::from(asked.max(1));
    per_check
}

/// The Redis calls by which tokens were looked up. The periodic work of replicas uses other
/// commands: heartbeats (a script with ZADD) and reads of the outbox (LLEN, LRANGE), which a lookup
/// of a token never uses alone.
async fn lookups(client: &RedisClient) -> u64 {
    const LOOKUPS: [&str; 5] = ["get", "mget", "exists", "ttl", "pttl"];
    let calls = client.calls().await;
    calls.iter().filter(|(name, _)| LOOKUPS.contains(&name.as_str())).map(|(_, count)| count).sum()
}

/// Whether a replica has stopped trusting its set since so many losses. It may log it a little
/// later.
async fn is_disturbed(cluster: &mut Cluster, losses: usize) -> bool {
    let began = Instant::now();
    while began.elapsed() < QUIET {
        if cluster.losses() > losses {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}
