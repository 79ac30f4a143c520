//! Tests of the end of the process: accepted requests are answered, others can go to another
//! replica, and a crash leaves nothing behind that would keep the next process from starting.

use std::{
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    check::{Ask, Client, Failure},
    process::{Folder, Service, component, eventually},
};

fn config(folder: &Folder, grace: &str) -> Value {
    let settings = json!({"rules": [{"effect": "allow"}]});
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &settings);
    // An end that waits for anything is never in time.
    config["shutdown"] = json!({"grace": grace, "timeout": "10m"});
    config["routes"][0]["deadline"] = json!("10s");
    config
}

fn service(grace: &str) -> Service {
    let folder = Folder::new();
    let config = config(&folder, grace);
    Service::start(folder, &config)
}

/// Load balancers see that it is not ready.
fn becomes_unready(service: &Service) {
    eventually("it is not ready", || {
        (service.admin("GET", "/readyz").unwrap().0 == 503).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_request() {
    let mut service = service("10m");
    let answered = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..2 {
        let client = Arc::new(Client::connect(service.addresses.grpc).await);
        for _ in 0..4 {
            let (client, answered) = (Arc::clone(&client), Arc::clone(&answered));
            tasks.spawn(async move {
                loop {
                    match client.try_ask(&Ask::get("/")).await {
                        Ok(answer) => assert!(answer.allowed, "{answer:?}"),
                        Err(Failure::Refused) => return,
                        Err(Failure::Lost(why)) => panic!("a request was lost: {why}"),
                    }
                    answered.fetch_add(1, SeqCst);
                }
            });
        }
    }
    let some = |more: u64| {
        let begin = answered.load(SeqCst);
        eventually("requests are answered", || {
            (answered.load(SeqCst) >= begin + more).then_some(())
        });
    };
    some(100);
    service.signal("TERM");
    becomes_unready(&service);
    some(1);
    // A second signal ends the grace.
    service.signal("TERM");
    while let Some(ended) = tasks.join_next().await {
        ended.expect("every request that was let in is answered");
    }
    let status = service.end();
    assert!(status.success(), "{status}");
    for address in [service.addresses.grpc, service.addresses.admin] {
        assert!(TcpStream::connect(address).is_err(), "{address} still accepts connections");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_grace_lasts_it_answers_but_is_not_ready() {
    let mut service = service("10m");
    service.signal("TERM");
    becomes_unready(&service);
    let (_, causes) = service.admin("GET", "/readyz").unwrap();
    assert_eq!(causes, "not ready: draining\n");
    assert_eq!(service.admin("GET", "/livez").unwrap().0, 200, "it must not be restarted");
    let client = Client::connect(service.addresses.grpc).await;
    assert!(client.ask(&Ask::get("/")).await.allowed);
    service.signal("TERM");
    assert!(service.end().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let mut service = service("0s");
    let idle = Client::connect(service.addresses.grpc).await;
    idle.ask(&Ask::get("/")).await;
    let _silent = TcpStream::connect(service.addresses.grpc).unwrap();
    let begin = std::time::Instant::now();
    service.signal("INT");
    assert!(service.end().success());
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_it_starts_again_on_the_same_ports() {
    let service = service("0s");
    let addresses = service.addresses;
    // A connection that the crash leaves half closed.
    let client = Client::connect(addresses.grpc).await;
    assert!(client.ask(&Ask::get("/")).await.allowed);
    let folder = service.kill();
    let mut config = config(&folder, "0s");
    config["grpc"]["listen"] = json!(addresses.grpc);
    config["admin"]["listen"] = json!(addresses.admin);
    let service = Service::start(folder, &config);
    assert_eq!(service.addresses.grpc, addresses.grpc);
    let client = Client::connect(addresses.grpc).await;
    assert!(client.ask(&Ask::get("/")).await.allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_old_enough_closes_and_loses_no_request() {
    let folder = Folder::new();
    let mut config = config(&folder, "0s");
    config["grpc"]["max_connection_age"] = json!("50ms");
    let service = Service::start(folder, &config);
    for _ in 0..3 {
        let client = Client::connect(service.addresses.grpc).await;
        let ends = async {
            loop {
                match client.try_ask(&Ask::get("/")).await {
                    Ok(answer) => assert!(answer.allowed, "{answer:?}"),
                    Err(Failure::Refused) => return,
                    Err(Failure::Lost(why)) => panic!("a request was lost: {why}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), ends).await.unwrap();
    }
}
