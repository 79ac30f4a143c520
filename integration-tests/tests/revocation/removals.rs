//! Tests of un-revocations: the event takes effect only if Redis has no key for the token.

use portcullis_integration_tests::{
    eventually,
    portcullis::Replicas,
    publisher::{Event, Publisher},
    token::Claims,
};
use serde_json::json;

use super::{
    check, config,
    relay_process::{Relay, Services, revoke},
};

fn event(claims: &Claims) -> Event {
    Event::add_for_an_hour(claims.jti())
}

#[tokio::test]
async fn an_old_unrevocation_does_not_undo_a_newer_revocation() {
    let services = Services::start().await;
    let config = config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url());
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient();
    let replicas = Replicas::start(2, &config).await;
    let [again, gone] = std::array::from_fn(|_| Claims::default());
    let all = async |claims: &Claims, status| {
        for replica in replicas.iter() {
            let what = format!("the token is answered with {status}");
            eventually::holds(&what, async || check(replica, claims).await == status).await;
        }
    };
    for claims in [&again, &gone] {
        publisher.revoke(&event(claims)).await;
        all(claims, 403).await;
    }
    // There is no relay, so both un-revocations wait in the outbox.
    for claims in [&again, &gone] {
        let output = revoke(&config, &["--jti", claims.jti(), "--remove"]).await;
        assert!(output.status.success(), "{output:?}");
    }
    publisher.revoke(&event(&again)).await;
    let _relay = Relay::start(&config).await;
    // Events are in order: when the second un-revocation is applied, the first one has been
    // handled.
    all(&gone, 200).await;
    for replica in replicas.iter() {
        assert_eq!(check(replica, &again).await, 403);
    }
    // A repeated event does not unrevoke either.
    publisher.publish(&Event::remove(again.jti())).await;
    publisher.revoke(&event(&gone)).await;
    all(&gone, 403).await;
    publisher.publish(&Event::remove(gone.jti())).await;
    let other = Claims::default();
    publisher.publish(&event(&other)).await;
    publisher.publish(&Event::remove(other.jti())).await;
    all(&other, 200).await;
    for replica in replicas.iter() {
        for claims in [&again, &gone] {
            assert_eq!(check(replica, claims).await, 403);
        }
    }
}

#[tokio::test]
async fn a_repeated_revocation_is_verified_and_needs_its_key() {
    let services = Services::start().await;
    let config = config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url());
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient();
    let replicas = Replicas::start(1, &config).await;
    let answered = async |claims: &Claims, status| {
        let what = format!("the token is answered with {status}");
        eventually::holds(&what, async || check(replicas.get(0), claims).await == status).await;
    };
    // One that was unrevoked is refused for a second without its key, which a stall may hide.
    let refused_once = async |claims: &Claims| {
        eventually::holds("the token is denied", async || {
            publisher.publish(&event(claims)).await;
            check(replicas.get(0), claims).await == 403
        })
        .await;
    };
    let [again, once] = std::array::from_fn(|_| Claims::default());
    publisher.revoke(&event(&again)).await;
    answered(&again, 403).await;
    let _: u64 = services.redis.client().command(&["DEL", &event(&again).key()]).await;
    publisher.publish(&Event::remove(again.jti())).await;
    answered(&again, 200).await;
    // The broker keeps both events. A failover of Redis has lost both keys.
    for claims in [&again, &once] {
        refused_once(claims).await;
    }
    answered(&again, 200).await;
    assert_eq!(check(replicas.get(0), &once).await, 403, "it was never unrevoked");
}

#[tokio::test]
async fn a_snapshot_does_not_restore_an_unrevoked_token() {
    let services = Services::start().await;
    let config = config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url())
        .with("blacklist.redis.resnapshot_interval", "200ms");
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient();
    let claims = Claims::default();
    publisher.store(&[event(&claims)]).await;
    let replicas = Replicas::start(1, &config).await;
    let replica = replicas.get(0);
    assert_eq!(check(replica, &claims).await, 403);
    // The event first, the key later, as in some publishers.
    publisher.publish(&Event::remove(claims.jti())).await;
    let _: u64 = services.redis.client().command(&["DEL", &event(&claims).key()]).await;
    eventually::holds("the token passes", async || check(replica, &claims).await == 200).await;
    let readings = async || -> usize {
        let stats = services.redis.client().calls().await;
        usize::try_from(stats.get("scan").copied().unwrap_or_default()).unwrap_or_default()
    };
    let before = readings().await;
    eventually::holds("the store is read twice more", async || readings().await >= before + 2)
        .await;
    assert_eq!(check(replica, &claims).await, 200);
}
