//! Tests of logouts and security events that an issuer sends: each becomes a revocation at all
//! replicas.

use std::time::{Duration, Instant};

use portcullis_integration_tests::{
    client::{Request, Response},
    eventually,
    issuer::{Issuer, IssuerKey},
    portcullis::{Config, Portcullis, Replicas, token_route},
    token::{AUDIENCE, Claims},
};
use serde_json::json;

use super::{
    reaches,
    relay_process::{Relay, Services},
};

const CLIENT: &str = "shop";

fn config(services: &Services, issuer: &Issuer) -> Config {
    let main = json!({
        "issuer": issuer.url(),
        "audiences": [AUDIENCE],
        "keys": [{"jwks_url": issuer.jwks_url()}],
        "backchannel_logout": {"audiences": [CLIENT], "ends": "session"},
        "security_events": {"audiences": [CLIENT], "ends": "session"},
    });
    services
        .config()
        .with("issuers", json!({"main": main}))
        .with("tokens.fetch.cooldown", "1ms")
        .with("receiver.listen", "127.0.0.1:0")
        .with("routes", json!([token_route("api", &["/*"])]))
}

async fn log_out(replica: &Portcullis, token: &str) -> Response {
    let request = Request::post("/backchannel-logout", format!("logout_token={token}"))
        .header("Content-Type", "application/x-www-form-urlencoded");
    request.send(replica.addresses().receiver()).await
}

async fn check(replica: &Portcullis, token: &str) -> u16 {
    Request::get("/a").bearer(token).send(replica.addresses().http()).await.status
}

/// A token of the issuer for a session.
fn access(issuer: &Issuer, session_id: &str, key: &IssuerKey) -> String {
    issuer.sign(Claims::default().with("sid", session_id), key)
}

#[tokio::test]
async fn a_logout_at_the_issuer_is_effective_at_all_replicas() {
    let services = Services::start().await;
    let [old, new] = [IssuerKey::new("old"), IssuerKey::new("new")];
    let issuer = Issuer::start(&[&old]).await;
    let config = config(&services, &issuer);
    let _relay = Relay::start(&config).await;
    let replicas = Replicas::start(3, &config).await;
    for replica in replicas.iter() {
        reaches(replica, "live").await;
    }
    // A key that no replica knows is fetched for a logout, too.
    issuer.publish(&[&old, &new]);
    for (round, key) in [&old, &new].into_iter().enumerate() {
        let session = format!("session-{round}");
        let [ended, other] = [session.as_str(), "another"].map(|sid| access(&issuer, sid, &old));
        for replica in replicas.iter() {
            assert_eq!(check(replica, &ended).await, 200);
        }
        let logout = issuer.logout_token(CLIENT, Claims::default().with("sid", session), key);
        let began = Instant::now();
        let answer = log_out(replicas.get(round), &logout).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for replica in replicas.iter() {
            eventually::holds("the session is refused", async || {
                check(replica, &ended).await == 403
            })
            .await;
            assert_eq!(check(replica, &other).await, 200);
        }
        eprintln!("from the logout to the last replica: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_security_event_is_effective_at_all_replicas() {
    let services = Services::start().await;
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let config = config(&services, &issuer);
    let _relay = Relay::start(&config).await;
    let replicas = Replicas::start(3, &config).await;
    for replica in replicas.iter() {
        reaches(replica, "live").await;
    }
    let of = |subject: &str| issuer.sign(Claims::default().with("sub", subject), &key);
    let [ended, other] = ["alice", "bob"].map(of);
    let event = issuer.security_event(CLIENT, "credential-change", "alice", &key);
    let push =
        Request::post("/security-events", event).header("Content-Type", "application/secevent+jwt");
    let answer = push.send(replicas.get(0).addresses().receiver()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    for replica in replicas.iter() {
        eventually::holds("the subject is refused", async || check(replica, &ended).await == 403)
            .await;
        assert_eq!(check(replica, &other).await, 200);
    }
}

#[tokio::test]
async fn a_logout_is_answered_only_once_it_is_stored() {
    let services = Services::start().await;
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let config = config(&services, &issuer);
    let replica = Portcullis::start(&config).await;
    reaches(&replica, "live").await;
    let logout = |sid: &str| issuer.logout_token(CLIENT, Claims::default().with("sid", sid), &key);
    // Longer than the receiver retries: the issuer is told so, and nothing is revoked.
    services.redis.pause().await;
    let answer = log_out(&replica, &logout("s1")).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    assert_eq!(check(&replica, &access(&issuer, "s1", &key)).await, 200);

    // An outage of a second costs the issuer nothing but time.
    let [pending, ended] = [logout("s2"), access(&issuer, "s2", &key)];
    let resume = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        services.redis.unpause().await;
    };
    let (answer, ()) = tokio::join!(log_out(&replica, &pending), resume);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(check(&replica, &ended).await, 403);
    // An issuer that stops waiting has sent it all the same.
    let [pending, given_up] = [logout("s3"), access(&issuer, "s3", &key)];
    services.redis.pause().await;
    let patience = Duration::from_secs(1);
    assert!(tokio::time::timeout(patience, log_out(&replica, &pending)).await.is_err());
    services.redis.unpause().await;
    eventually::holds("the session is refused", async || check(&replica, &given_up).await == 403)
        .await;
    let later = Portcullis::start(&config).await;
    assert_eq!(check(&later, &ended).await, 403, "the store has it");
}
