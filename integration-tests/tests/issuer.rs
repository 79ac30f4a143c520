//! Tests of keys that are fetched from issuers: found, followed, and missed.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::time::Duration;

use portcullis_integration_tests::{
    client::Request,
    eventually,
    issuer::{Fault, Issuer, IssuerKey},
    portcullis::{self, Config, Portcullis, token_route},
    token::{AUDIENCE, Claims},
};
use serde_json::{Value, json};

/// A configuration with this issuer alone, and these settings of `tokens.fetch`.
fn config(issuer: &Issuer, keys: &Value, fetch: &Value) -> Config {
    let main = json!({"issuer": issuer.url(), "audiences": [AUDIENCE], "keys": [keys]});
    let config = Config::new([token_route("api", &["/api"])]);
    config.with("issuers", json!({"main": main})).with("tokens.fetch", fetch.clone())
}

fn at_url(issuer: &Issuer) -> Value {
    json!({"jwks_url": issuer.jwks_url()})
}

/// What Envoy gets over HTTP in place of 503 `not_ready`: an Envoy that fails open lets 503 pass.
const NOT_READY: u16 = 403;

/// The status of a request with this token: 200 if it may pass.
async fn status(portcullis: &Portcullis, token: &str) -> u16 {
    Request::get("/api").bearer(token).send(portcullis.addresses().http()).await.status
}

async fn is_answered(portcullis: &Portcullis, token: &str, expected: u16) {
    eventually::holds(&format!("the answer is {expected}"), || async {
        status(portcullis, token).await == expected
    })
    .await;
}

/// The value of a metric of the issuer.
async fn metric(portcullis: &Portcullis, name: &str) -> Option<f64> {
    let line = format!("{name}{{issuer=\"main\"}} ");
    let metrics = portcullis.admin().metrics().await;
    metrics.lines().find_map(|text| text.strip_prefix(&line)).map(|value| value.parse().unwrap())
}

/// Waits until so many sources of keys cannot be used.
async fn is_failing(portcullis: &Portcullis, sources: f64) {
    eventually::holds(&format!("{sources} sources fail"), || async {
        metric(portcullis, "portcullis_key_files_failing").await == Some(sources)
    })
    .await;
}

#[tokio::test]
async fn keys_are_found_at_a_url_or_by_discovery() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let token = issuer.sign(Claims::default(), &key);
    let forged = issuer.sign(Claims::default(), &IssuerKey::new("k1"));
    for keys in [at_url(&issuer), json!({"discovery": true})] {
        let portcullis = Portcullis::start(&config(&issuer, &keys, &json!({}))).await;
        assert_eq!(status(&portcullis, &token).await, 200, "{keys}");
        assert_eq!(status(&portcullis, &forged).await, 401, "{keys}");
        let shown = portcullis.admin().issuers().await;
        assert_eq!((&shown[0]["name"], &shown[0]["keys"]), (&json!("main"), &json!(1)), "{shown}");
        assert!(shown[0]["usable_seconds"].as_u64().unwrap() > 86_000, "{shown}");
        let usable = metric(&portcullis, "portcullis_keys_usable_seconds").await.unwrap();
        assert!((86_000.0..86_400.0).contains(&usable), "{usable}");
    }
}

#[tokio::test]
async fn an_encrypted_issuer_is_trusted_by_its_certificate() {
    let key = IssuerKey::new("k1");
    let (issuer, certificate) = Issuer::start_with_tls(&[&key]).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certificate).unwrap();
    let token = issuer.sign(Claims::default(), &key);
    let trusting = json!({"discovery": true, "ca_file": ca_file});
    let portcullis = Portcullis::start(&config(&issuer, &trusting, &json!({}))).await;
    assert_eq!(status(&portcullis, &token).await, 200);

    let portcullis = Portcullis::launch(&config(&issuer, &at_url(&issuer), &json!({}))).await;
    eventually::holds("the log says that the certificate is not trusted", || async {
        portcullis.log().contains("invalid peer certificate")
    })
    .await;
    assert_eq!(status(&portcullis, &token).await, NOT_READY);
}

#[tokio::test]
async fn a_proxy_is_asked_but_for_loopback() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    // A proxy gets the whole URL, and this one answers by its path.
    let proxy = issuer.url().replace("/realm", "");
    let elsewhere = json!({"jwks_url": "http://id.test/realm/certs", "allow_http": true});
    let config = |keys: &Value| config(&issuer, keys, &json!({})).env("HTTP_PROXY", &proxy);
    let portcullis = Portcullis::start(&config(&elsewhere)).await;
    let token = issuer.sign(Claims::default(), &key);
    assert_eq!(status(&portcullis, &token).await, 200);
    assert_eq!(issuer.fetches(), 1);

    let dead = config(&at_url(&issuer)).env("HTTP_PROXY", "http://127.0.0.1:1");
    let portcullis = Portcullis::start(&dead).await;
    assert_eq!(status(&portcullis, &token).await, 200);
}

#[tokio::test]
async fn a_new_key_is_accepted_with_its_first_token_and_a_withdrawn_one_is_not() {
    let [old, new] = [IssuerKey::new("old"), IssuerKey::new("new")];
    let issuer = Issuer::start(&[&old]).await;
    let config = config(&issuer, &at_url(&issuer), &json!({"cooldown": "1ms"}));
    let portcullis = Portcullis::start(&config).await;
    let [before, after] = [&old, &new].map(|key| issuer.sign(Claims::default(), key));
    assert_eq!(status(&portcullis, &before).await, 200);
    assert_eq!(status(&portcullis, &before).await, 200, "it is remembered");
    issuer.publish(&[&new]);
    assert_eq!(status(&portcullis, &after).await, 200);
    assert_eq!(status(&portcullis, &before).await, 401);
}

#[tokio::test]
async fn a_key_that_takes_the_id_of_another_is_accepted_with_its_first_token() {
    let [old, new] = [IssuerKey::new("k1"), IssuerKey::new("k1")];
    let issuer = Issuer::start(&[&old]).await;
    let config = config(&issuer, &at_url(&issuer), &json!({"cooldown": "1ms"}));
    let portcullis = Portcullis::start(&config).await;
    let [before, after] = [&old, &new].map(|key| issuer.sign(Claims::default(), key));
    assert_eq!(status(&portcullis, &before).await, 200);
    issuer.publish(&[&new]);
    assert_eq!(status(&portcullis, &after).await, 200);
    assert_eq!(status(&portcullis, &before).await, 401);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_a_refresh() {
    let [leaked, other] = [IssuerKey::new("leaked"), IssuerKey::new("other")];
    let issuer = Issuer::start(&[&leaked, &other]).await;
    // Less than the shortest time that is configured.
    issuer.cache_control("no-cache, max-age=600");
    let fetch = json!({"shortest_refresh": "200ms"});
    let portcullis = Portcullis::start(&config(&issuer, &at_url(&issuer), &fetch)).await;
    let [leaked, good] = [&leaked, &other].map(|key| issuer.sign(Claims::default(), key));
    assert_eq!(status(&portcullis, &leaked).await, 200);
    issuer.publish(&[&other]);
    is_answered(&portcullis, &leaked, 401).await;
    assert_eq!(status(&portcullis, &good).await, 200);
    // An issuer may withdraw its last key, or replace it by one that cannot be used.
    issuer.publish(&[]);
    is_answered(&portcullis, &good, 401).await;
    issuer.publish(&[&other]);
    is_answered(&portcullis, &good, 200).await;
    let oct = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}]}).to_string();
    issuer.fault(Some(Fault::Document(oct)));
    is_answered(&portcullis, &good, 401).await;
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_for_each_cooldown() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let fetch = json!({"cooldown": "1h"});
    let portcullis = Portcullis::start(&config(&issuer, &at_url(&issuer), &fetch)).await;
    let good = issuer.sign(Claims::default(), &key);
    assert_eq!(issuer.fetches(), 1);
    let forged: Vec<_> = (0..300)
        .map(|number| issuer.sign(Claims::default(), &IssuerKey::new(&format!("k{number}!"))))
        .collect();
    let all = forged.iter().map(|token| status(&portcullis, token));
    let answers = futures_util::future::join_all(all).await;
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    assert_eq!(status(&portcullis, &good).await, 200);
    assert_eq!(issuer.fetches(), 1, "the first fetch was a moment ago");

    // All that come together wait for one fetch.
    let fetch = json!({"cooldown": "1ms", "timeout": "12s"});
    let config = config(&issuer, &at_url(&issuer), &fetch);
    let portcullis = Portcullis::start(&config.with("http.timeout", "15s")).await;
    issuer.fault(Some(Fault::Slow(Duration::from_secs(2))));
    let all = forged.iter().take(50).map(|token| status(&portcullis, token));
    let answers = futures_util::future::join_all(all).await;
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    // On a busy machine, some come after it.
    let fetches = issuer.fetches() - 2;
    assert!((1..5).contains(&fetches), "{fetches} for 50 requests");
}

#[tokio::test]
async fn a_replica_is_not_ready_until_its_issuer_has_answered() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    issuer.fault(Some(Fault::Status(503)));
    let config = config(&issuer, &at_url(&issuer), &json!({"cooldown": "1ms"}));
    let mut portcullis = Portcullis::launch(&config).await;
    let token = issuer.sign(Claims::default(), &key);
    assert_eq!(status(&portcullis, &token).await, NOT_READY, "nothing is known of the token");
    assert!(!portcullis.is_ready().await);
    issuer.fault(None);
    portcullis.ready().await;
    assert_eq!(status(&portcullis, &token).await, 200);
}

#[tokio::test]
async fn keys_stay_while_the_issuer_fails_and_the_log_says_why() {
    let key = IssuerKey::new("k1");
    let elsewhere = Issuer::start(&[&key]).await;
    let many = json!({"keys": vec![json!({"kty": "EC"}); 101]}).to_string();
    for (fault, message) in [
        (Fault::Status(500), "the answer has the status 500"),
        (Fault::Status(404), "the answer has the status 404"),
        (Fault::Slow(Duration::from_secs(3)), "no answer within 1 s"),
        (Fault::Redirect(elsewhere.jwks_url()), "redirects to another origin"),
        (Fault::Redirect("http://169.254.169.254/".to_owned()), "redirects to another origin"),
        (Fault::Document(r#"{"keys": [{"kty""#.to_owned()), "the JSON ends too early"),
        (Fault::Document("<html>".to_owned()), "this is not JSON"),
        (Fault::Document("[]".to_owned()), "an object with one list `keys`"),
        (Fault::Document(many), "101 keys are more than the 100"),
        (Fault::Large(2 << 20), "larger than 1048576 bytes"),
    ] {
        let issuer = Issuer::start(&[&key]).await;
        let fetch = json!({"cooldown": "1ms", "timeout": "1s"});
        let portcullis = Portcullis::start(&config(&issuer, &at_url(&issuer), &fetch)).await;
        let good = issuer.sign(Claims::default(), &key);
        assert_eq!(status(&portcullis, &good).await, 200);
        issuer.fault(Some(fault.clone()));
        let unknown = issuer.sign(Claims::default(), &IssuerKey::new("k2"));
        assert!([401, NOT_READY].contains(&status(&portcullis, &unknown).await), "{fault:?}");
        eventually::holds(&format!("the log has: {message}"), || async {
            portcullis.log().contains(message)
        })
        .await;
        assert_eq!(status(&portcullis, &good).await, 200, "{fault:?}");
        is_failing(&portcullis, 1.0).await;
        issuer.fault(None);
        is_failing(&portcullis, 0.0).await;
    }
    assert_eq!(elsewhere.fetches(), 0);
}

#[tokio::test]
async fn metadata_of_another_issuer_lead_to_no_keys() {
    for (name, value, message) in [
        ("issuer", "http://id.test/realm", "not exactly the configured one"),
        ("jwks_uri", "http://id.test/keys", "`jwks_uri` begins with `http://`"),
        ("jwks_uri", "https://169.254.169.254/", "`jwks_uri` names a link-local"),
    ] {
        let key = IssuerKey::new("k1");
        let issuer = Issuer::start(&[&key]).await;
        issuer.metadata(name, value);
        let discovery = json!({"discovery": true});
        let mut portcullis =
            Portcullis::launch(&config(&issuer, &discovery, &json!({"cooldown": "1ms"}))).await;
        eventually::holds(&format!("the log has: {message}"), || async {
            portcullis.log().contains(message)
        })
        .await;
        let token = issuer.sign(Claims::default(), &key);
        assert_eq!(status(&portcullis, &token).await, NOT_READY);
        let truth = if name == "issuer" { issuer.url() } else { issuer.jwks_url() };
        issuer.metadata(name, truth);
        portcullis.ready().await;
        assert_eq!(status(&portcullis, &token).await, 200);
    }
}

#[tokio::test]
async fn keys_that_are_too_old_are_no_longer_used() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let fetch = json!({
        "shortest_refresh": "100ms", "longest_refresh": "200ms", "max_stale": "1s",
        "cooldown": "1ms", "timeout": "1s",
    });
    let portcullis = Portcullis::start(&config(&issuer, &at_url(&issuer), &fetch)).await;
    let token = issuer.sign(Claims::default(), &key);
    is_answered(&portcullis, &token, 200).await;
    issuer.fault(Some(Fault::Status(500)));
    is_answered(&portcullis, &token, NOT_READY).await;
    eventually::holds("the log says why", || async {
        portcullis.log().contains("older than `tokens.fetch.max_stale`")
    })
    .await;
    issuer.fault(None);
    is_answered(&portcullis, &token, 200).await;
}

#[tokio::test]
async fn a_restart_serves_from_the_cache_while_the_issuer_is_down() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(&issuer, &at_url(&issuer), &json!({"cache_dir": folder.path()}));
    let token = issuer.sign(Claims::default(), &key);
    let portcullis = Portcullis::start(&config).await;
    assert_eq!(status(&portcullis, &token).await, 200);
    eventually::holds("the keys are in the cache", || async {
        folder.path().read_dir().unwrap().any(|entry| {
            entry.unwrap().path().extension().is_some_and(|extension| extension == "json")
        })
    })
    .await;
    drop((portcullis, issuer));
    let portcullis = Portcullis::start(&config).await;
    assert_eq!(status(&portcullis, &token).await, 200);
}

#[tokio::test]
async fn check_config_fetches_keys_on_demand() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = config(&issuer, &json!({"discovery": true}), &json!({})).write(folder.path());
    let check = async |online: bool| {
        let mut command = tokio::process::Command::from(portcullis::command());
        command.arg("check-config").arg("--config").arg(&file);
        command.args(online.then_some("--online")).output().await.unwrap()
    };
    issuer.fault(Some(Fault::Status(500)));
    assert!(check(false).await.status.success());
    assert_eq!(issuer.fetches(), 0);
    let output = check(true).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && printed.contains("status 500"), "{printed}");
    issuer.fault(None);
    let output = check(true).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.contains("/realm: 1 key"), "{printed}");
}
