//! Tests of keys and tokens in the running service: keys that move, go and come back, key files that
//! cannot be used, and what the log says about a token that is refused.

use std::time::Instant;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    check::{self, Answer, Ask, Client},
    process::{Folder, PATIENCE, Service, eventually, run},
};

/// A key pair of the issuer.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y})
    }

    /// A token with this header, besides `alg`.
    fn token(&self, mut header: Value, claims: &Value) -> String {
        header["alg"] = json!("ES256");
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn of_kid(&self, kid: &str) -> String {
        self.token(json!({"typ": "JWT", "kid": kid}), &check::claims("alice"))
    }
}

fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// A service with one route that requires a token, whose keys are in two JWKS files.
fn service(first: &[Value], second: &[Value]) -> Service {
    let folder = Folder::new();
    let mut config = folder.config();
    let files = [("first", first), ("second", second)]
        .map(|(name, keys)| json!({"jwks_file": folder.put(name, jwks(keys))}));
    config["issuers"]["test"]["keys"] = json!(files);
    config["tokens"] = json!({"key_reload_interval": "20ms"});
    config["routes"] = json!([
        {"name": "api", "token": "required", "allow_without_policy": true},
    ]);
    Service::start(folder, &config)
}

/// Asks with a token until the answer has this status.
async fn until_status(client: &Client, token: &str, status: i32) {
    let begin = Instant::now();
    loop {
        let answer = client.ask(&Ask::get("/").bearer(token)).await;
        if status_of(&answer) == status {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "no {status} but {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// The status of a deny; 200 of an allow.
fn status_of(answer: &Answer) -> i32 {
    if answer.allowed { 200 } else { answer.status }
}

/// The value of a series.
fn metric(service: &Service, series: &str) -> u64 {
    service.metric(series).unwrap_or_else(|| panic!("{series} is missing"))
}

fn failing(service: &Service) -> u64 {
    metric(service, r#"portcullis_key_files_failing{issuer="test"}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_moves_is_kept_and_a_withdrawn_one_is_refused() {
    let (k1, k2, k3) = (Key::new(), Key::new(), Key::new());
    let service = service(&[k1.jwk("k1")], &[k2.jwk("k2")]);
    let client = Client::connect(service.addresses.grpc).await;
    let [k1_token, k2_token, k3_token] =
        [(&k1, "k1"), (&k2, "k2"), (&k3, "k3")].map(|(key, kid)| key.of_kid(kid));
    until_status(&client, &k1_token, 200).await;
    service.folder.replace("first", jwks(&[k2.jwk("k2")]).as_bytes());
    service.folder.replace("second", jwks(&[k3.jwk("k3")]).as_bytes());
    until_status(&client, &k3_token, 200).await;
    until_status(&client, &k1_token, 401).await;
    until_status(&client, &k2_token, 200).await;
    // No key may sign any more.
    service.folder.replace("first", b"{\"keys\": []}");
    service.folder.replace("second", b"{\"keys\": []}");
    until_status(&client, &k2_token, 401).await;
    until_status(&client, &k3_token, 401).await;
    assert_eq!(failing(&service), 0);
    service.has_logged(1, "can verify tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_counted_until_it_can() {
    let (old, new) = (Key::new(), Key::new());
    let service = service(&[old.jwk("old")], &[]);
    let client = Client::connect(service.addresses.grpc).await;
    let failures =
        || metric(&service, r#"portcullis_key_reloads_total{issuer="test",result="failure"}"#);
    assert_eq!((failures(), failing(&service)), (0, 0));
    service.folder.replace("first", b"{\"keys\": [");
    // Again and again, though it changes no more.
    eventually("it is tried again", || (failures() >= 3).then_some(()));
    assert_eq!(failing(&service), 1);
    until_status(&client, &old.of_kid("old"), 200).await;
    std::fs::remove_file(service.folder.path("first")).unwrap();
    let before = failures();
    eventually("a file that is gone counts too", || (failures() > before + 1).then_some(()));
    assert_eq!(failing(&service), 1);
    service.has_logged(1, "cannot use a source of keys");
    let reports =
        service.log().lines().filter(|line| line.contains("cannot use a source of keys")).count();
    assert!((1..=3).contains(&reports), "one for each cause, not one for each attempt: {reports}");
    service.folder.replace("first", jwks(&[new.jwk("new")]).as_bytes());
    until_status(&client, &new.of_kid("new"), 200).await;
    until_status(&client, &old.of_kid("old"), 401).await;
    eventually("nothing fails any more", || (failing(&service) == 0).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_what_is_wrong_with_a_token_and_shows_none() {
    let key = Key::new();
    let service = service(&[key.jwk("k1")], &[]);
    let client = Client::connect(service.addresses.grpc).await;
    let header = || json!({"typ": "at+jwt", "kid": "k1"});
    let with = |name: &str, value: Value| {
        let mut claims = check::claims("alice");
        claims[name] = value;
        key.token(header(), &claims)
    };
    let good = key.of_kid("k1");
    let other_header = |header: Value| key.token(header, &check::claims("alice"));
    let millis = jiff::Timestamp::now().as_millisecond() + 600_000;
    for (token, detail) in [
        (with("jti", Value::Null), "missing_claim: jti"),
        (with("sub", json!(1234)), "malformed_claim: sub"),
        (with("sub", json!("alice ")), "malformed_claim: sub"),
        (with("nbf", json!("soon")), "malformed_claim: nbf"),
        (with("exp", json!(millis)), "malformed_claim: exp"),
        (with("iss", json!("https://evil.test")), "unknown_issuer: https://evil.test"),
        (with("cnf", json!({"jkt": "x"})), "sender_constrained: cnf"),
        (with("events", json!({"x": {}})), "wrong_token_type: events"),
        (other_header(json!({"kid": "k2"})), "unknown_key: k2"),
        (other_header(json!({"kid": "a\nb"})), r"unknown_key: a\\nb"),
        (other_header(json!({"kid": good})), "unknown_key: (left out, as it could be a token)"),
        (other_header(json!({"kid": "k1", "typ": "logout+jwt"})), "wrong_header_type: logout+jwt"),
        (other_header(json!({"kid": "k1", "typ": "dpop+jwt"})), "wrong_header_type: dpop+jwt"),
    ] {
        let answer = client.ask(&Ask::get("/").bearer(&token)).await;
        assert_eq!((answer.status, answer.reason.as_str()), (401, "invalid_token"), "{detail}");
        assert_eq!(answer.body, "invalid token", "the client does not learn why");
        let line = format!(r#""detail":"{detail}""#);
        eventually(&line, || service.log().contains(&line).then_some(()));
        for part in token.split('.').chain(good.split('.')) {
            assert!(!service.log().contains(part), "{detail}: a token is in the log");
        }
    }
    until_status(&client, &good, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_id_or_of_none_are_all_tried() {
    let (a, b) = (Key::new(), Key::new());
    let service = service(&[a.jwk("same"), b.jwk("same")], &[]);
    let client = Client::connect(service.addresses.grpc).await;
    for key in [&a, &b] {
        until_status(&client, &key.of_kid("same"), 200).await;
        let without = key.token(json!({"typ": "JWT"}), &check::claims("alice"));
        until_status(&client, &without, 200).await;
        let null = key.token(json!({"kid": null}), &check::claims("alice"));
        until_status(&client, &null, 200).await;
    }
    until_status(&client, &Key::new().of_kid("same"), 401).await;
}

#[test]
fn an_issuer_without_audiences_is_warned_of() {
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = json!([{"name": "api", "token": "required", "allow_without_policy": true}]);
    let warning = "warning: issuers.test.audiences: is empty";
    let checked = folder.check_config(&config);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(
        checked.stdout.contains(warning) && checked.stdout.contains("ID tokens"),
        "{checked:?}"
    );
    config["issuers"]["test"]["audiences"] = json!(["api"]);
    assert!(!folder.check_config(&config).stdout.contains("warning"), "nothing is open");
    config["issuers"]["test"]["audiences"] = json!([]);
    let service = Service::start(folder, &config);
    service.has_logged(1, "issuers.test.audiences: is empty");
}

#[test]
fn a_revocation_in_which_a_name_occurs_twice_is_refused() {
    let folder = Folder::new();
    let config = folder.config();
    let service = Service::start(folder, &config);
    for event in
        [r#"{"jti": "dup", "jti": "dup2"}"#, r#"{"jti": "dup", "by": {"name": "a", "name": "b"}}"#]
    {
        let (status, body) = service.post("/v1/revocations", event);
        assert_eq!(status, 400, "{event}: {body}");
        assert!(body.contains("occurs twice"), "{body}");
        assert_eq!(service.admin("GET", "/v1/revocations/dup2").unwrap().0, 404);
    }
}

#[test]
fn a_token_is_revoked_with_the_scheme_before_it_as_well() {
    // There is no store, which is reported only once the token has been read.
    let folder = Folder::new();
    let config = json!({"blacklist": {
        "redis": {"url": "redis://127.0.0.1:1/0"}, "rabbitmq": {"url": "amqp://127.0.0.1:1"},
    }});
    let file = folder.write(&config);
    let read = |text: &str| {
        let token = folder.put("token", text);
        let arguments = ["revoke".as_ref(), "--config".as_ref(), file.as_os_str()];
        let more = ["--token-file".as_ref(), token.as_os_str()];
        run(&[&arguments[..], &more].concat())
    };
    let token = check::token("alice");
    for text in [format!("Bearer {token}\n"), format!("bearer {token}"), token.clone()] {
        let finished = read(&text);
        assert_eq!(finished.code, Some(1), "the token was read: {finished:?}");
    }
    read(&format!("Basic {token}")).assert_refused(&["signed JWT"]);
}

#[test]
fn settings_of_fetching_that_make_no_sense_are_refused() {
    let url = json!([{"jwks_url": "https://id.test/keys"}]);
    let files = |folder: &Folder| json!([{"jwks_file": folder.put("keys", jwks(&[]))}]);
    for (keys, fetch, parts) in [
        (None, json!({}), &["tokens.fetch", "no issuer has `jwks_url` or `discovery`"] as &[_]),
        (Some(&url), json!({"timeout": "0s"}), &["tokens.fetch.timeout", "longer than zero"]),
        (Some(&url), json!({"shortest_refresh": "1h"}), &["tokens.fetch", "shortest_refresh"]),
        (Some(&url), json!({"max_stale": "1m"}), &["tokens.fetch", "max_stale"]),
        (Some(&url), json!({"timeout": "25h"}), &["tokens.fetch", "timeout"]),
        (Some(&url), json!({"cache_dir": "/nonexistent"}), &["tokens.fetch.cache_dir"]),
        (Some(&json!([{"discovery": true}])), json!({}), &["issuers.test.keys", "`issuer`"]),
        (
            Some(&json!([{"jwks_url": "https://id.test/k", "ca_file": "/nonexistent/ca.pem"}])),
            json!({}),
            &["issuers.test.keys", "`ca_file`", "/nonexistent/ca.pem"],
        ),
    ] {
        let folder = Folder::new();
        let mut config = folder.config();
        config["issuers"]["test"]["keys"] = keys.cloned().unwrap_or_else(|| files(&folder));
        if parts.contains(&"`issuer`") {
            config["issuers"]["test"]["issuer"] = Value::Null;
        }
        config["tokens"] = json!({"fetch": fetch});
        folder.check_config(&config).assert_refused(parts);
    }
}
