//! Tests of graceful shutdown: a replica that gets SIGTERM loses no request.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use portcullis_integration_tests::{
    client::Request,
    envoy::{self, Envoy},
    eventually,
    portcullis::{Config, Portcullis, token_route},
    token,
    upstream::Upstream,
};
use serde_json::json;
use tokio::task::JoinSet;

/// Concurrent requests.
const CLIENTS: usize = 8;
/// Requests before the replica gets SIGTERM, and again after it has ended.
const ENOUGH: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_ends_under_load_fails_no_request() {
    let config = Config::new([token_route("api", &["/api/*"])]).with("shutdown.grace", "5s");
    let mut leaving = Portcullis::start(&config).await;
    let staying = Portcullis::start(&config).await;
    let upstream = Upstream::start().await;
    let replicas = [leaving.addresses().grpc, staying.addresses().grpc];
    // Health checks, as in a mesh. Envoy would wait a minute for the second check of a cluster that
    // had no traffic before the first.
    let health = json!([{
        "timeout": "10s", "interval": "0.1s", "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 1, "healthy_threshold": 1,
        "grpc_health_check": {},
    }]);
    let envoy = envoy::EnvoyConfig::grpc(&replicas, upstream.address());
    let envoy = Envoy::start(&envoy.with_cluster("health_checks", health)).await;
    eventually::holds("both replicas are healthy", async || {
        envoy.stat("cluster.authorizer.membership_healthy").await == 2
    })
    .await;

    let load = Load::start(&envoy);
    load.run(ENOUGH).await;
    leaving.terminate();
    let ended = leaving.process().end().await;
    load.run(ENOUGH).await;
    let refused = load.stop().await;

    assert!(ended.success(), "{ended}");
    assert_eq!(refused, Vec::<String>::new());
}

/// Clients that send without a pause.
struct Load {
    clients: JoinSet<Vec<String>>,
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(envoy: &Envoy) -> Self {
        let (answered, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (answered, stop) = (Arc::clone(&answered), Arc::clone(&stop));
            let (request, to) = (Request::get("/api/a").bearer(&token::good()), envoy.http());
            clients.spawn(async move {
                let mut refused = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match request.try_send(to).await {
                        Ok(response) if response.status == 200 => {}
                        Ok(response) => refused.push(format!("status {}", response.status)),
                        Err(error) => refused.push(error.to_string()),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                refused
            });
        }
        Self { clients, answered, stop }
    }

    /// Waits for this many more answers.
    async fn run(&self, requests: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + requests;
        eventually::holds("requests are answered", async || {
            self.answered.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    /// Stops the clients and returns all answers other than 200.
    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await.concat()
    }
}
