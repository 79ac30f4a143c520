//! Owns the proof that the checker catches feeds that are broken on purpose, and that it is the
//! feed which it catches: the same story with a sound one breaks no promise.

use std::{sync::Arc, time::Duration};

use portcullis_chaos::{
    checker::{Rules, Wrong, judge},
    cluster::Cluster,
    history::{Clock, History, Look, Revocation, Span, Target, Way},
    plan::{Plan, REPLICAS, Scale, Topology},
    workload::{Asker, Board},
};
use portcullis_integration_tests::{
    client::Request,
    eventually,
    publisher::{Event, Publisher, Way as Published},
};

/// How long a replica with a snapshot that came too early waits before it connects to the broker.
const EARLY: &str = "feed::snapshot-before-bind=return;feed::connect=sleep(4000)";
const SKIPPING: &str = "feed::skip-replay=return";
const RULES: Rules = Rules { bound: Duration::from_millis(25), relay: Duration::ZERO };

/// One token is revoked at a certain moment, and all replicas are asked about it afterwards.
struct Story {
    plan: Plan,
    board: Arc<Board>,
    clock: Clock,
    history: History,
}

// === impl Story ===

impl Story {
    fn begin() -> Self {
        let plan = Plan::new(7, &Scale::short());
        let board = Arc::new(Board::new(&plan));
        let history = History { tokens: plan.tokens.clone(), ..History::default() };
        let mut story = Self { plan, board, clock: Clock::begin(), history };
        story.look();
        story
    }

    /// Everybody is ready whenever they are asked in these stories.
    fn look(&mut self) {
        let span = Span::new(self.clock.now(), self.clock.now());
        let looks = (0..REPLICAS).map(|replica| Look { replica, ready: true, span });
        self.history.looks.extend(looks);
    }

    fn token(&self) -> usize {
        self.plan.good
    }

    async fn revoke(&mut self, publisher: &Publisher) {
        let names = self.board.names();
        let event = Event::add(&names.jti(self.token()), names.expires_at());
        let began = self.clock.now();
        assert_eq!(publisher.revoke(&event).await, Published::Exchange);
        let target = Target::Token(self.token());
        let acknowledged = Some(self.clock.now());
        self.history.revocations.push(Revocation {
            target,
            way: Way::Exchange,
            began,
            acknowledged,
        });
    }

    /// Asks everybody, and returns the replicas that break the promise.
    async fn judge(mut self, cluster: &Cluster) -> Vec<usize> {
        let endpoints = cluster.endpoints();
        // A promise binds from here on.
        tokio::time::sleep(2 * RULES.bound).await;
        for replica in 0..REPLICAS {
            let board = Arc::clone(&self.board);
            let mut asker = Asker::new(replica, endpoints.grpc[replica], board, self.clock);
            asker.ask(self.token()).await;
            asker.ask(0).await;
            self.history.merge(asker.finish());
        }
        self.look();
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
    cluster.settled().await;
    let mut story = Story::begin();
    cluster.link(0).cut().await;
    let admin = cluster.admin(0);
    eventually::holds("the replica notices that it is cut off", || async {
        admin.call(Request::get("/v1/revocations")).await.json()["state"] == "stale"
    })
    .await;
    story.revoke(publisher).await;
    cluster.link(0).restore().await;
    cluster.settled().await;
    story.judge(cluster).await
}

/// A token is revoked after the first replica has read the store, and before it hears from the
/// broker, if these come in the wrong order.
async fn between(cluster: &mut Cluster, publisher: &Publisher, failpoint: &str) -> Vec<usize> {
    let redis = cluster.redis.client(cluster.primary().await);
    redis.flush().await;
    redis.forget_calls().await;
    let mut story = Story::begin();
    cluster.replica(0).relaunch(0, |config| config.failpoint(failpoint)).await;
    eventually::holds("the replica reads the store", || async {
        redis.calls().await.contains_key("scan")
    })
    .await;
    story.revoke(publisher).await;
    cluster.settled().await;
    story.judge(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_skips_the_replay_or_reads_the_store_too_early_is_caught() {
    let _turn = super::TURN.lock().await;
    let mut cluster = Box::pin(Cluster::start(Topology::Stream)).await;
    let primary = cluster.redis.client(cluster.primary().await);
    let publisher = Publisher::new(&cluster.rabbitmq.url(), primary).patient();

    assert_eq!(cut_off(&mut cluster, &publisher, "sound=off").await, [0; 0]);
    assert_eq!(cut_off(&mut cluster, &publisher, SKIPPING).await, [0]);

    // With a stream, what follows the snapshot would still be replayed from it.
    cluster.use_topology(Topology::ExclusiveQueue).await;
    assert_eq!(between(&mut cluster, &publisher, "sound=off").await, [0; 0]);
    assert_eq!(between(&mut cluster, &publisher, EARLY).await, [0]);
}
