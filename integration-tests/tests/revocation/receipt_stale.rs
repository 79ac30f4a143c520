//! Tests of receipts from replicas without a broker: they read the requested receipts from Redis,
//! and confirm once the revocation is in their own set.

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::{Config, Portcullis},
    services::{Link, rabbitmq},
    token::Claims,
};
use serde_json::json;

use super::{
    check, config, reaches,
    relay_process::{Relay, Services, confirmed, receipt_of_two, revoked_at, waited},
};

fn replica_config(services: &Services) -> Config {
    config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url())
}

async fn announced(services: &Services, count: u64) {
    let what = format!("{count} replicas have announced themselves");
    eventually::holds(&what, async || {
        let command = ["ZCOUNT", "portcullis:replicas", "0", "+inf"];
        services.redis.client().command::<u64>(&command).await == count
    })
    .await;
}

#[tokio::test]
async fn a_replica_with_a_cut_link_confirms_what_the_relay_published() {
    let services = Services::start().await;
    let config = replica_config(&services);
    let link = Link::to(services.rabbitmq.address()).await;
    let linked = config.clone().with("blacklist.rabbitmq.url", rabbitmq::url(link.address()));
    let _relay = Relay::start(&config).await;
    let (connected, cut) = tokio::join!(Portcullis::start(&config), Portcullis::start(&linked));
    reaches(&connected, "live").await;
    reaches(&cut, "live").await;
    announced(&services, 2).await;
    link.cut().await;
    reaches(&cut, "stale").await;

    let claims = revoked_at(&config, 2).await;
    assert!(cut.admin().is_revoked(claims.jti()).await, "it is in its own set");
    // Several at once: the receipt of the last one is for all of them.
    let events: Vec<_> = (0..50).map(|n| json!({"jti": format!("many-{n}")}).to_string()).collect();
    let request = Request::post("/v1/revocations?wait=20s", events.join("\n"))
        .header("Content-Type", "application/x-ndjson");
    receipt_of_two(&connected, &request, 201).await;
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
        reaches(replica, "live").await;
    }
    announced(&services, 2).await;
    services.rabbitmq.kill().await;
    for replica in &replicas {
        reaches(replica, "stale").await;
    }

    let of_subject = Claims::default().with("sub", "alice");
    let claims = revoked_at(&config, 2).await;
    let expected = "revoked: applied by 2 replicas after ";
    confirmed(&config, &["--sub", "alice"], expected).await;
    for replica in &replicas {
        assert_eq!(check(replica, &claims).await, 403);
        assert_eq!(check(replica, &of_subject).await, 403);
    }
    let expected = "no longer revoked: applied by 2 replicas after ";
    confirmed(&config, &["--jti", claims.jti(), "--remove"], expected).await;
    for replica in &replicas {
        assert_eq!(check(replica, &claims).await, 200);
    }
}

#[tokio::test]
async fn a_receipt_without_an_event_is_not_confirmed() {
    let services = Services::start().await;
    let config = replica_config(&services);
    let replica = Portcullis::start(&config).await;
    reaches(&replica, "live").await;
    services.rabbitmq.kill().await;
    reaches(&replica, "stale").await;
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
