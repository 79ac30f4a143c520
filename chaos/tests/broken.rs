//! Sabotaged feeds: the checker catches each feed that a failpoint breaks. The same scenario with
//! an intact feed breaks no promise, so it is the sabotage that is caught.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::{sync::Arc, time::Duration};

use portcullis_chaos::{
    checker::{Rules, Wrong, judge},
    cluster::{Cluster, STREAM},
    history::{Health, HealthSample, History, Revocation, Target, Unrevocation, Way},
    moment::{Clock, Moment, Span},
    plan::{Plan, REPLICAS, Scale},
    setup::{Setup, Topology},
    workload::{Asker, Board},
};
use portcullis_integration_tests::{
    client::Request,
    eventually,
    publisher::{EXCHANGE, Event, Publisher, Way as Published},
};
use rustix::process::Signal;
use tokio::{task::JoinSet, time::Instant};

/// The snapshot comes before the bind, and the replica waits before it connects to the broker.
const EARLY: &str = "feed::snapshot-before-bind=return;feed::connect=sleep(4000)";
const SKIPPING: &str = "feed::skip-replay=return";
/// An un-revocation is applied without verification in the store.
const UNVERIFIED: &str = "feed::believe-removals=return";
/// The lease of the set never expires.
const LEASELESS: &str = "feed::no-lease=return";
/// There is one snapshot per connection, and no resnapshot.
const NO_RESNAPSHOT: &str = "feed::no-resnapshot=return";
/// No sabotage.
const INTACT: &str = "sound=off";
/// Longer than a replica trusts its set without a message from its source.
const LEASE: Duration = Duration::from_millis(1800);
/// Checks that wait for a stopped replica.
const WAITING: usize = 30;
/// The interval between snapshots of the store.
const RESNAPSHOT: Duration = Duration::from_secs(3);
/// How long a snapshot takes.
const READING: Duration = Duration::from_secs(1);
/// How many rounds a sabotage may need to show an effect.
const ROUNDS: usize = 15;
/// The same for a set without a lease. It shows only where a waiting check is answered before the
/// thread of the feed runs: on a busy machine, in few rounds.
const LEASELESS_ROUNDS: usize = 60;
const RULES: Rules = Rules {
    bound: Duration::from_millis(25),
    limit: Duration::from_millis(25),
    relay: Duration::ZERO,
};

/// The set-up of the scenarios. A replica that asks the store on a busy machine gets an answer.
fn patient() -> Setup {
    Setup { store_timeout: Duration::from_secs(5), ..Setup::default() }
}

/// A failpoint, and no second snapshot that would soon repair what it causes.
fn unrepaired(failpoint: &str) -> String {
    format!("{failpoint};{NO_RESNAPSHOT}")
}

/// A scenario: one token is revoked at a certain moment, and later checked at all replicas.
struct Scenario {
    plan: Plan,
    board: Arc<Board>,
    clock: Clock,
    history: History,
}

// === impl Scenario ===

impl Scenario {
    fn begin() -> Self {
        let plan = Plan::new(7, &Scale::short());
        let board = Arc::new(Board::new(&plan));
        let history = History { tokens: board.tokens().to_vec(), ..History::default() };
        let mut scenario = Self { plan, board, clock: Clock::begin(), history };
        scenario.note_ready();
        scenario
    }

    /// Records that all replicas are ready: in these scenarios they always are.
    fn note_ready(&mut self) {
        let span = Span::new(self.clock.now(), self.clock.now());
        let health =
            (0..REPLICAS).map(|replica| HealthSample { replica, health: Health::Ready, span });
        self.history.health.extend(health);
    }

    fn token(&self) -> usize {
        self.plan.good
    }

    fn jti(&self) -> String {
        self.board.names().jti(self.token())
    }

    fn event(&self) -> Event {
        Event::add(&self.jti(), self.board.names().expires_at())
    }

    async fn revoke(&mut self, publisher: &Publisher) {
        let event = self.event();
        let began = self.clock.now();
        assert_eq!(publisher.revoke(&event).await, Published::Exchange);
        self.revoked(began);
    }

    /// Records that the token is revoked by now.
    fn revoked(&mut self, began: Moment) {
        let acknowledged = Some(self.clock.now());
        let target = Target::Token(self.token());
        let way = Way::Exchange;
        self.history.revocations.push(Revocation { target, way, began, acknowledged });
    }

    /// Records that the token is unrevoked by now.
    fn unrevoked(&mut self, began: Moment) {
        let acknowledged = Some(self.clock.now());
        let (token, way) = (self.token(), Way::Exchange);
        self.history.unrevocations.push(Unrevocation { token, way, began, acknowledged });
    }

    /// Waits until all replicas give this answer about the token.
    async fn all(&self, cluster: &Cluster, revoked: bool) {
        let jti = self.jti();
        for replica in 0..REPLICAS {
            let admin = cluster.admin(replica);
            let what = format!("replica {replica} has applied the event");
            eventually::holds(&what, || async { admin.is_revoked(&jti).await == revoked }).await;
        }
    }

    /// Checks the token at all replicas, and returns those that break the promise.
    async fn judge(mut self, cluster: &Cluster) -> Vec<usize> {
        let endpoints = cluster.endpoints();
        // After this wait, the promise must hold.
        tokio::time::sleep(2 * RULES.limit).await;
        for replica in 0..REPLICAS {
            let board = Arc::clone(&self.board);
            let mut asker = Asker::new(replica, endpoints.grpc[replica], board, self.clock);
            asker.ask(self.token()).await;
            asker.ask(0).await;
            self.history.merge(asker.finish());
        }
        self.note_ready();
        let findings = judge(self.plan.seed, &self.history, &RULES);
        for violation in &findings.violations {
            assert!(matches!(violation.wrong, Wrong::Allowed(_)), "{violation}");
            println!("{violation}");
        }
        findings.violations.iter().map(|violation| violation.check.replica).collect()
    }
}

/// The first replica is cut off while a token is revoked.
async fn cut_off(cluster: &mut Cluster, publisher: &Publisher, failpoint: &str) -> Vec<usize> {
    cluster.replica(0).relaunch(0, |config| config.failpoint(failpoint)).await;
    cluster.recovered().await;
    let mut scenario = Scenario::begin();
    cluster.ways(0).broker.cut().await;
    let admin = cluster.admin(0);
    eventually::holds("the replica notices that it is cut off", || async {
        admin.call(Request::get("/v1/revocations")).await.json()["state"] == "stale"
    })
    .await;
    scenario.revoke(publisher).await;
    cluster.ways(0).broker.restore().await;
    cluster.recovered().await;
    scenario.judge(cluster).await
}

/// A token is revoked after the snapshot of the first replica and before its bind to the broker, if
/// these come in the wrong order.
async fn between(cluster: &mut Cluster, publisher: &Publisher, failpoint: &str) -> Vec<usize> {
    let redis = cluster.redis.client(cluster.primary().await);
    redis.flush().await;
    redis.forget_calls().await;
    let mut scenario = Scenario::begin();
    cluster.replica(0).relaunch(0, |config| config.failpoint(failpoint)).await;
    eventually::holds("the replica reads the store", || async {
        redis.calls().await.contains_key("scan")
    })
    .await;
    scenario.revoke(publisher).await;
    cluster.recovered().await;
    scenario.judge(cluster).await
}

/// An un-revocation is redelivered after the token was revoked again.
async fn repeated(cluster: &mut Cluster, publisher: &Publisher, failpoint: &str) -> Vec<usize> {
    cluster.replica(0).relaunch(0, |config| config.failpoint(failpoint)).await;
    cluster.recovered().await;
    let mut scenario = Scenario::begin();
    scenario.revoke(publisher).await;
    scenario.all(cluster, true).await;
    let began = scenario.clock.now();
    let key = scenario.event().key();
    let _: Option<u64> = cluster.store().command(&["DEL", &key]).await;
    publisher.publish(&Event::remove(&scenario.jti())).await;
    scenario.unrevoked(began);
    scenario.all(cluster, false).await;
    scenario.revoke(publisher).await;
    scenario.all(cluster, true).await;
    publisher.publish(&Event::remove(&scenario.jti())).await;
    // Events arrive in order: a replica that has a later one also has this one.
    cluster.recovered().await;
    scenario.judge(cluster).await
}

/// The first replica is stopped while a token is revoked, for longer than its lease. Checks wait
/// for it to continue.
async fn stopped(cluster: &mut Cluster, publisher: &Publisher, failpoint: &str) -> Vec<usize> {
    cluster.replica(0).relaunch(0, |config| config.failpoint(failpoint)).await;
    cluster.recovered().await;
    let mut scenario = Scenario::begin();
    cluster.replica(0).get(0).signal(Signal::STOP);
    let stopped = Instant::now();
    scenario.revoke(publisher).await;
    tokio::time::sleep_until(stopped + LEASE).await;
    let (token, grpc) = (scenario.token(), cluster.endpoints().grpc[0]);
    let mut waiting = JoinSet::new();
    for _ in 0..WAITING {
        let mut asker = Asker::new(0, grpc, Arc::clone(&scenario.board), scenario.clock);
        waiting.spawn(async move {
            asker.ask(token).await;
            asker.finish()
        });
    }
    let answered = tokio::time::timeout(Duration::from_millis(300), waiting.join_next()).await;
    assert!(answered.is_err(), "a stopped process does not answer");
    cluster.replica(0).get(0).signal(Signal::CONT);
    while let Some(asked) = waiting.join_next().await {
        scenario.history.merge(asked.unwrap());
    }
    cluster.recovered().await;
    let mut wrong = scenario.judge(cluster).await;
    wrong.dedup();
    wrong
}

/// The broker confirms an event that it does not store.
async fn unbound(cluster: &mut Cluster, publisher: &Publisher, failpoint: &str) -> Vec<usize> {
    let setup = Setup { resnapshot: RESNAPSHOT, ..patient() };
    cluster.use_setup(setup).await;
    cluster.replica(0).relaunch(0, |config| config.failpoint(failpoint)).await;
    cluster.recovered().await;
    let mut scenario = Scenario::begin();
    scenario.history.setup = setup;
    cluster.rabbitmq.unbind(STREAM, EXCHANGE).await;
    scenario.revoke(publisher).await;
    // All replicas resnapshot, except for a sabotaged one.
    let jti = scenario.jti();
    let is_sabotaged = failpoint != INTACT;
    for replica in usize::from(is_sabotaged)..REPLICAS {
        let admin = cluster.admin(replica);
        eventually::holds("the store is read again", || async { admin.is_revoked(&jti).await })
            .await;
    }
    if is_sabotaged {
        tokio::time::sleep(RESNAPSHOT + READING).await;
    }
    let wrong = scenario.judge(cluster).await;
    cluster.recovered().await;
    wrong
}

/// Whether a sabotage is caught within some rounds. In a single round it may have no effect.
async fn is_caught(rounds: usize, mut round: impl AsyncFnMut() -> Vec<usize>) -> bool {
    for _ in 0..rounds {
        let wrong = round().await;
        assert!(wrong.iter().all(|replica| *replica == 0), "only the sabotaged replica is caught");
        if !wrong.is_empty() {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sabotaged_feeds_are_caught_and_intact_ones_pass() {
    let _turn = super::TURN.lock().await;
    let mut cluster = Box::pin(Cluster::start(patient())).await;
    let primary = cluster.redis.client(cluster.primary().await);
    let publisher = Publisher::new(&cluster.rabbitmq.url(), primary).patient();
    let (skipping, unverified) = (unrepaired(SKIPPING), unrepaired(UNVERIFIED));

    for intact in [INTACT, NO_RESNAPSHOT] {
        assert_eq!(cut_off(&mut cluster, &publisher, intact).await, [0; 0]);
        assert_eq!(repeated(&mut cluster, &publisher, intact).await, [0; 0]);
    }
    let caught =
        is_caught(ROUNDS, async || cut_off(&mut cluster, &publisher, &skipping).await).await;
    assert!(caught, "a feed that skips what it missed is caught");
    let caught =
        is_caught(ROUNDS, async || repeated(&mut cluster, &publisher, &unverified).await).await;
    assert!(caught, "a feed that verifies no un-revocation is caught");

    assert_eq!(stopped(&mut cluster, &publisher, INTACT).await, [0; 0]);
    let leaseless = async || stopped(&mut cluster, &publisher, LEASELESS).await;
    assert!(is_caught(LEASELESS_ROUNDS, leaseless).await, "a set without a lease is caught");

    assert_eq!(unbound(&mut cluster, &publisher, INTACT).await, [0; 0]);
    let read_once = async || unbound(&mut cluster, &publisher, NO_RESNAPSHOT).await;
    assert!(is_caught(ROUNDS, read_once).await, "a feed without resnapshots is caught");

    // A stream would still replay what follows the snapshot.
    let own = Setup { topology: Topology::ExclusiveQueue, ..patient() };
    cluster.use_setup(own).await;
    assert_eq!(between(&mut cluster, &publisher, INTACT).await, [0; 0]);
    let early = async || between(&mut cluster, &publisher, EARLY).await;
    assert!(is_caught(ROUNDS, early).await, "a snapshot before the bind is caught");
}
