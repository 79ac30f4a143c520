//! Owns figures that need a state of their own: a long outage, a large store, quiet replicas.
//!
//! None of them is taken from a run, because other work would disturb it.

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
    history::{Clock, Verdict},
    plan::{Plan, REPLICAS, Scale},
    propagation::Times,
    report,
    workload::{Asker, Board},
};

/// What was measured. What was not is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// How long all replicas took to have everything again, after an outage in which events were
    /// published.
    pub resync: Option<Resync>,
    /// How long a replica took from its start to being ready.
    pub start: Option<Start>,
    /// The same right after the flood, which it has to read once more.
    pub start_after_flood: Option<Start>,
    /// How often Redis was asked for each check while everything was well.
    pub redis_calls_per_check: Option<f64>,
    /// How long single revocations took while there was nothing else to do.
    pub propagation: Option<Times>,
    /// How long it took until a flood was in force everywhere.
    pub flood: Option<Flood>,
}

/// After an outage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resync {
    /// How long it lasted.
    pub outage: Duration,
    /// Events that were published meanwhile.
    pub events: usize,
    /// From its end to all replicas being live.
    pub took: Duration,
    /// Revocations that a live replica did not know of.
    pub missed: usize,
}

/// A start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Entries in the store.
    pub entries: usize,
    /// Events of the last minutes in the stream, none of which is in the store.
    pub replayed: usize,
    /// From the start of the process to being ready.
    pub took: Duration,
}

/// A flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// Events.
    pub events: usize,
    /// From the first one being sent to the last one being in force everywhere.
    pub took: Duration,
}

/// How large the states are.
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

/// Events that are made and sent at once.
const BATCH: usize = 10_000;
/// A large store takes its time.
const PATIENCE: Duration = Duration::from_mins(5);

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

    /// For `make test`: the same ways, in seconds.
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
    /// When something does not become well again.
    pub async fn measure(cluster: &mut Cluster, size: &Size) -> Self {
        cluster.settled().await;
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
        if let Some(Flood { events, took }) = self.flood {
            put(format!("flood_{}_ms", short(events)), json!(took.as_millis()));
        }
        if let Some(calls) = self.redis_calls_per_check {
            put("redis_calls_per_check".to_owned(), json!(calls));
        }
        if let Some(times) = &self.propagation {
            put("propagation_alone_ms".to_owned(), report::times(times));
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
        if let Some(Flood { events, took }) = self.flood {
            let what = format!("{events} events, until all are in force");
            writeln!(out, "{what:<44}{:>8} ms", took.as_millis())?;
        }
        if let Some(calls) = self.redis_calls_per_check {
            writeln!(out, "{:<44}{calls:>8}", "Redis calls per check, while all is well")?;
        }
        if let Some(times) = &self.propagation {
            let what = format!("published -> denied on all, {} times, alone", times.count());
            let [p50, p99, max] = [times.quantile(0.5), times.quantile(0.99), times.max()];
            writeln!(out, "{what:<44} p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")?;
        }
        writeln!(out)
    }
}

/// `10k`, `1m`: how figures are called.
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

/// Cuts all links, publishes, mends them, and looks whether a replica knows everything.
async fn resync(cluster: &mut Cluster, size: &Size) -> Resync {
    let began = Instant::now();
    for link in cluster.links() {
        link.cut().await;
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
    let mended = Instant::now();
    for link in cluster.links() {
        link.restore().await;
    }
    for replica in 0..REPLICAS {
        cluster.live(replica).await;
    }
    let took = mended.elapsed();
    let mut missed = 0;
    for (place, name) in names.iter().enumerate() {
        let known = cluster.admin(place % REPLICAS).is_revoked(name).await;
        missed += usize::from(!known);
    }
    Resync { outage: size.outage, events: size.missed, took, missed }
}

/// Publishes far more than can be applied at once, and waits until it is.
async fn flood(cluster: &mut Cluster, size: &Size) -> Flood {
    let began = Instant::now();
    for events in events("flood", size.flood) {
        cluster.publisher().publish_all(&events).await;
    }
    cluster.settled().await;
    Flood { events: size.flood, took: began.elapsed() }
}

/// Fills the store, starts a replica, and empties the store again.
async fn start(cluster: &mut Cluster, size: &Size, replayed: usize) -> Start {
    let primary = cluster.primary().await;
    let client = cluster.redis.client(primary);
    let publisher = Publisher::new(&cluster.rabbitmq.url(), cluster.redis.client(primary));
    for events in events("start", size.entries) {
        publisher.store(&events).await;
    }
    // That all of it is copied to the other Redis, and that their files are tidied up, is no part of
    // the start.
    let _: String = client.command(&["SET", "chaos:last", "written"]).await;
    eventually::holds_within(PATIENCE, "the store is copied", async || {
        client.command::<u64>(&["WAIT", "1", "1000"]).await == 1
    })
    .await;
    for member in [primary, primary.other()] {
        let server = cluster.redis.client(member);
        let rests = async || !server.is_rewriting().await;
        eventually::holds_within(PATIENCE, "Redis has written its file anew", rests).await;
    }
    cluster.replica(0).kill(0);
    let began = Instant::now();
    cluster.replica(0).relaunch(0, |config| config).await;
    let admin = cluster.replica(0).get(0);
    eventually::holds_within(PATIENCE, "the replica is ready", || admin.is_ready()).await;
    let took = began.elapsed();
    let _: Option<String> = cluster.store().command(&["FLUSHALL"]).await;
    cluster.settled().await;
    Start { entries: size.entries, replayed, took }
}

/// Revokes one token after the other, and asks all replicas about each until all deny it.
async fn propagation(cluster: &Cluster, size: &Size) -> Times {
    // Tokens of its own.
    let plan = Plan::new(u64::MAX, &Scale::short());
    let board = Arc::new(Board::new(&plan));
    let grpc = cluster.endpoints().grpc;
    let mut askers: [Asker; REPLICAS] = array::from_fn(|replica| {
        Asker::new(replica, grpc[replica], Arc::clone(&board), Clock::begin())
    });
    let mut times = Times::new();
    for token in (0..plan.tokens.len()).take(size.revocations) {
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
        times.record(denied.expect("a revocation comes through"));
    }
    times
}

/// Asks all replicas about good tokens, each several times, and counts what Redis was asked for
/// them. What replicas do by themselves once in a while, checks or not, has other commands: they say
/// that they are there (a script with ZADD) and look into the outbox (LLEN, LRANGE), which a look at
/// a token never does alone.
async fn redis_calls_per_check(cluster: &mut Cluster, size: &Size) -> f64 {
    const LOOKUPS: [&str; 5] = ["get", "mget", "exists", "ttl", "pttl"];
    let plan = Plan::new(0, &Scale::short());
    let board = Arc::new(Board::new(&plan));
    let endpoints = cluster.endpoints();
    // The relay looks into the outbox by itself.
    cluster.relay().kill();
    let client: RedisClient = cluster.redis.client(cluster.primary().await);
    // Replicas may yet have to read the store a second time. If it is empty, they ask for no token.
    client.flush().await;
    client.forget_calls().await;
    let mut asked = 0;
    for replica in 0..REPLICAS {
        let grpc = endpoints.grpc[replica];
        let mut client = Asker::new(replica, grpc, Arc::clone(&board), Clock::begin());
        for number in 0..size.checks / REPLICAS {
            let verdict = client.ask(number % plan.tokens.len()).await;
            assert_eq!(verdict, Verdict::Allow, "nobody revoked this token");
            asked += 1;
        }
    }
    let calls = client.calls().await;
    let lookups = calls.iter().filter(|(name, _)| LOOKUPS.contains(&name.as_str()));
    let calls: u64 = lookups.map(|(_, count)| count).sum();
    cluster.relay().restart(None);
    #[expect(clippy::cast_precision_loss, reason = "some thousands of calls")]
    let per_check = calls as f64 / f64::from(asked.max(1));
    per_check
}
