//! Tests of receipts from replicas without a broker: they read the requested receipts from Redis,
//! and confirm once the revocation is in their own set.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::{Config, Portcullis},
    services::{Link, rabbitmq},
    token::Claims,
};
use serde_json::json;

use super::{
    check, config,
    relay_process::{Relay, Services, revoke},
};

fn replica_config(services: &Services) -> Config {
    config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url())
}

async fn is(replica: &Portcullis, state: &str) {
    eventually::holds(&format!("the feed is {state}"), || async {
        replica.admin().revocations().await["state"] == state
    })
    .await;
}

async fn announced(services: &Services, count: u64) {
    let what = format!("{count} replicas have announced themselves");
    eventually::holds(&what, async || {
        let command = ["ZCOUNT", "portcullis:replicas", "0", "+inf"];
        services.redis.client().command::<u64>(&command).await == count
    })
    .await;
}

/// The output of `portcullis revoke --wait` with these arguments. It must succeed.
async fn waited(config: &Config, arguments: &[&str]) -> String {
    let waiting = [arguments, &["--wait", "--timeout", "20s"]].concat();
    let output = revoke(config, &waiting).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_replica_with_a_cut_link_confirms_what_the_relay_published() {
    let services = Services::start().await;
    let config = replica_config(&services);
    let link = Link::to(services.rabbitmq.address()).await;
    let linked = config.clone().with("blacklist.rabbitmq.url", rabbitmq::url(link.address()));
    let _relay = Relay::start(&config).await;
    let (connected, cut) = tokio::join!(Portcullis::start(&config), Portcullis::start(&linked));
    is(&connected, "live").await;
    is(&cut, "live").await;
    announced(&services, 2).await;
    link.cut().await;
    is(&cut, "stale").await;

    let claims = Claims::default();
    let printed = waited(&config, &["--jti", claims.jti()]).await;
    assert!(printed.starts_with("revoked: applied by 2 replicas after "), "{printed}");
    assert!(cut.admin().is_revoked(claims.jti()).await, "it is in its own set");
    // Several at once: the receipt of the last one is for all of them.
    let events: Vec<_> = (0..50).map(|n| json!({"jti": format!("many-{n}")}).to_string()).collect();
    let request = Request::post("/v1/revocations?wait=20s", events.join("\n"))
        .header("Content-Type", "application/x-ndjson");
    let answer = connected.admin().call(request).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    for n in 0..50 {
        assert!(cut.admin().is_revoked(&format!("many-{n}")).await, "{n}");
    }

    // It no longer needs Redis for it.
    services.redis.pause().await;
    assert_eq!(check(&cut, &claims).await, 403);
    services.redis.unpause().await;
}

#[tokio::test]
async fn without_a_broker_revocations_and_unrevocations_are_confirmed() {
    let services = Services::start().await;
    let config = replica_config(&services);
    let replicas = [Portcullis::start(&config).await, Portcullis::start(&config).await];
    for replica in &replicas {
        is(replica, "live").await;
    }
    announced(&services, 2).await;
    services.rabbitmq.kill().await;
    for replica in &replicas {
        is(replica, "stale").await;
    }

    let [claims, of_subject] = std::array::from_fn(|_| Claims::default());
    let of_subject = of_subject.with("sub", "alice");
    let printed = waited(&config, &["--jti", claims.jti()]).await;
    assert!(printed.starts_with("revoked: applied by 2 replicas after "), "{printed}");
    let printed = waited(&config, &["--sub", "alice"]).await;
    assert!(printed.contains("applied by 2 replicas after "), "{printed}");
    for replica in &replicas {
        assert_eq!(check(replica, &claims).await, 403);
        assert_eq!(check(replica, &of_subject).await, 403);
    }
    let printed = waited(&config, &["--jti", claims.jti(), "--remove"]).await;
    assert!(printed.starts_with("no longer revoked: applied by 2 replicas after "), "{printed}");
    for replica in &replicas {
        assert_eq!(check(replica, &claims).await, 200);
    }
}

#[tokio::test]
async fn a_receipt_without_an_event_is_not_confirmed() {
    let services = Services::start().await;
    let config = replica_config(&services);
    let replica = Portcullis::start(&config).await;
    is(&replica, "live").await;
    services.rabbitmq.kill().await;
    is(&replica, "stale").await;
    let client = services.redis.client();
    // The events of the first are lost, and the last event of the second belongs to another
    // receipt.
    let now = (jiff::Timestamp::now().as_millisecond()).to_string();
    for receipt in ["gone", "other"] {
        let _: u64 = client.command(&["ZADD", "portcullis:receipts", &now, receipt]).await;
    }
    let event = r#"{"type": "add", "jti": "a", "receipt": "mine"}"#;
    let _: u64 = client.command(&["RPUSH", "portcullis:receipt:other:events", event]).await;
    let printed = waited(&config, &["--jti", "b"]).await;
    assert!(printed.starts_with("revoked: applied by 1 replica after "), "{printed}");
    assert_eq!(client.keys("portcullis:receipt:gone").await, [""; 0]);
    assert_eq!(client.keys("portcullis:receipt:other").await, [""; 0]);
}
