//! Tests of the publisher.

use portcullis_integration_tests::{
    eventually,
    publisher::{Event, OUTBOX, Publisher, Way},
    services::{Link, RabbitMq, Redis, rabbitmq},
};

#[tokio::test]
async fn an_unconfirmed_event_goes_to_the_outbox_and_its_key_to_redis() {
    let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), Redis::start());
    let link = Link::to(rabbitmq.address()).await;
    let publisher = || Publisher::new(&rabbitmq::url(link.address()), redis.client());
    // A cut link is noticed at once, and a frozen one when the time is over.
    let (patient, hasty) = (publisher().patient(), publisher());
    let client = redis.client();
    let event = |jti| Event::add_for_an_hour(jti).with_user("user", "logout");

    assert_eq!(patient.revoke(&event("a")).await, Way::Exchange);
    link.cut().await;
    assert_eq!(patient.revoke(&event("b")).await, Way::Outbox);
    link.restore().await;
    assert_eq!(patient.revoke(&event("c")).await, Way::Exchange);
    eventually::holds("the other publisher is connected", async || {
        hasty.try_publish(&[event("c").wire().as_bytes()]).await.is_ok()
    })
    .await;
    link.freeze();
    assert_eq!(hasty.revoke(&event("d")).await, Way::Outbox);

    assert_eq!(
        client.keys("blacklist:*").await,
        ["blacklist:a", "blacklist:b", "blacklist:c", "blacklist:d"]
    );
    assert!((3500..=3600).contains(&client.ttl("blacklist:a").await));
    let value: serde_json::Value =
        serde_json::from_str(&client.get("blacklist:a").await.unwrap()).unwrap();
    assert_eq!((&value["user_id"], &value["reason"]), (&"user".into(), &"logout".into()));
    let in_outbox = client.list(OUTBOX).await;
    assert_eq!(in_outbox.len(), 2);
    assert!(in_outbox[0].contains(r#""jti": "d""#) && in_outbox[1].contains(r#""jti": "b""#));
}
