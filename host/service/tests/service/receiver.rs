//! Tests of the receiver in the running service: logouts and security events that an issuer sends.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{
    check::{self, Ask, Client, SECRET, sign},
    process::{Folder, Service, form, post},
};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const PATH: &str = "/backchannel-logout";
const EVENTS_PATH: &str = "/security-events";
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn config(folder: &Folder) -> Value {
    let mut config = folder.config();
    config["issuers"]["test"]["leeway"] = json!("10s");
    config["receiver"] = json!({"listen": "127.0.0.1:0"});
    config["issuers"]["test"]["backchannel_logout"] =
        json!({"audiences": ["client"], "ends": "session"});
    config["issuers"]["test"]["security_events"] =
        json!({"audiences": ["https://receiver"], "ends": "session"});
    config["routes"] = json!([
        {"name": "api", "token": "required", "allow_without_policy": true},
    ]);
    config
}

/// A token of a session, issued at a time.
fn access(subject: &str, session_id: &str, issued_at: i64) -> String {
    let mut claims = check::claims(subject);
    claims["sid"] = json!(session_id);
    claims["iat"] = json!(issued_at);
    sign(&claims, SECRET)
}

/// A logout token with these claims beside the usual ones.
fn logout_token(more: &Value) -> String {
    let mut claims = json!({
        "iss": check::ISSUER, "aud": "client", "iat": now(), "exp": now() + 120, "jti": "logout",
        "events": {EVENT: {}},
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    sign(&claims, SECRET)
}

fn send(to: SocketAddr, token: &str) -> (u16, String) {
    form(to, PATH, &format!("logout_token={token}")).unwrap()
}

/// A security event token about a subject.
fn event_token(event: &str, sub_id: &Value) -> String {
    sign(
        &json!({
            "iss": check::ISSUER, "aud": "https://receiver", "iat": now(), "jti": "event",
            "sub_id": sub_id, "events": {event: {"event_timestamp": now()}},
        }),
        SECRET,
    )
}

fn push(to: SocketAddr, token: &str) -> (u16, String) {
    post(to, EVENTS_PATH, "application/secevent+jwt", token).unwrap()
}

fn receiver(service: &Service) -> SocketAddr {
    service.addresses.receiver.expect("the receiver is on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_its_session_and_no_other() {
    let folder = Folder::new();
    let config = config(&folder);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let is_allowed = async |token: &str| client.ask(&Ask::get("/").bearer(token)).await.allowed;
    let [ended, other] = ["s1", "s2"].map(|session| access("alice", session, now()));
    let later = access("alice", "s1", now() + 9);
    assert!(is_allowed(&ended).await && is_allowed(&other).await);

    let logout = logout_token(&json!({"sub": "alice", "sid": "s1"}));
    for round in 0..2 {
        assert_eq!(send(receiver(&service), &logout), (200, String::new()), "round {round}");
        for token in [&ended, &later] {
            let answer = client.ask(&Ask::get("/").bearer(token)).await;
            assert_eq!(answer.reason, "token_revoked");
        }
        assert!(is_allowed(&other).await);
    }
    assert_eq!(service.metric("portcullis_logouts_total{result=\"stored\"}"), Some(2));
    let log = service.log();
    assert!(log.contains("report stored") && log.contains("outlives its session"), "{log}");
    assert!(!log.contains("s1") && !log.contains(&logout), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_of_a_subject_ends_what_was_issued_before() {
    let folder = Folder::new();
    let config = config(&folder);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let issued_at = now() - 10;
    let logout = logout_token(&json!({"sub": "alice", "iat": issued_at}));
    assert_eq!(send(receiver(&service), &logout).0, 200);
    for (subject, issued_at, allowed) in [
        ("alice", issued_at - 60, false),
        ("alice", issued_at, false),
        ("alice", issued_at + 1, true),
        ("bob", issued_at - 60, true),
    ] {
        let token = access(subject, "any", issued_at);
        let answer = client.ask(&Ask::get("/").bearer(&token)).await;
        assert_eq!(answer.allowed, allowed, "{subject} {issued_at}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_logout_is_refused_and_changes_nothing() {
    let folder = Folder::new();
    let config = config(&folder);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let to = receiver(&service);
    let good = access("alice", "s1", now());
    let session = json!({"sid": "s1"});
    let mut expired = session.clone();
    expired["exp"] = json!(now() - 60);
    let forged = {
        let claims =
            json!({"iss": check::ISSUER, "sid": "s1", "aud": "client", "events": {EVENT: {}}});
        sign(&claims, "another secret of the tests, long enough too")
    };
    for (token, cause) in [
        (good.as_str(), "missing_claim: events"),
        (&logout_token(&expired), "expired"),
        (&forged, "bad_signature"),
        ("garbage", "malformed"),
        ("", "malformed"),
    ] {
        let (status, body) = send(to, token);
        assert_eq!(status, 400, "{cause}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"], "invalid_request");
        assert!(body["error_description"].as_str().unwrap().contains(cause), "{body}");
    }
    let token = logout_token(&session);
    let twice = format!("logout_token={token}&logout_token={token}");
    assert_eq!(form(to, PATH, &twice).unwrap().0, 400);
    assert_eq!(form(to, PATH, &"x".repeat(200_000)).unwrap().0, 413);
    for (method, path, status) in
        [("GET", PATH, 405), ("POST", "/", 404), ("GET", "/metrics", 404), ("POST", PATH, 400)]
    {
        let answered = crate::process::http(to, method, path, None, "").unwrap();
        assert_eq!(answered.0, status, "{method} {path}");
    }
    assert!(client.ask(&Ask::get("/").bearer(&good)).await.allowed);
    assert_eq!(service.metric("portcullis_logouts_total{result=\"stored\"}"), Some(0));
    for (result, count) in [("unproven", 8), ("rejected", 1), ("failed", 0)] {
        let series = format!("portcullis_logouts_total{{result=\"{result}\"}}");
        assert_eq!(service.metric(&series), Some(count), "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_security_event_ends_a_session_a_subject_or_one_token() {
    let folder = Folder::new();
    let config = config(&folder);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let to = receiver(&service);
    let user = json!({"format": "iss_sub", "iss": check::ISSUER, "sub": "alice"});
    let session = json!({"format": "opaque", "id": "s1"});
    let [first, second] = ["s1", "s2"].map(|session| access("alice", session, now() - 1));
    let mut named = check::claims("bob");
    named["jti"] = json!("t1");
    let named = sign(&named, SECRET);
    let token = json!({"format": "jwt_id", "iss": check::ISSUER, "jti": "t1"});
    let other = access("bob", "s3", now() - 1);
    for (sub_id, denied, allowed) in [
        (json!({"user": user, "session": session}), [&first], vec![&second, &named, &other]),
        (token, [&named], vec![&second, &other]),
        (user, [&second], vec![&other]),
    ] {
        let event = event_token(SESSION_REVOKED, &sub_id);
        for round in 0..2 {
            assert_eq!(push(to, &event), (202, String::new()), "{sub_id}, round {round}");
            for token in denied {
                let answer = client.ask(&Ask::get("/").bearer(token)).await;
                assert_eq!(answer.reason, "token_revoked", "{sub_id}");
            }
            for token in &allowed {
                assert!(client.ask(&Ask::get("/").bearer(token)).await.allowed, "{sub_id}");
            }
        }
    }
    let mail = json!({"format": "email", "email": "bob@example.com"});
    assert_eq!(push(to, &event_token(SESSION_REVOKED, &mail)).0, 202);
    assert_eq!(
        push(to, &event_token(VERIFICATION, &json!({"format": "opaque", "id": "x"}))).0,
        202
    );
    assert_eq!(push(to, &event_token("https://example.com/other", &mail)).0, 202);
    assert!(client.ask(&Ask::get("/").bearer(&other)).await.allowed);
    for (result, count) in [("stored", 6), ("unmatched", 1), ("ignored", 2), ("unproven", 0)] {
        let series = format!("portcullis_security_events_total{{result=\"{result}\"}}");
        assert_eq!(service.metric(&series), Some(count), "{result}");
    }
    let log = service.log();
    for shown in ["session-revoked", "no name that access tokens have", "that ends no token"] {
        assert!(log.contains(shown), "{shown}: {log}");
    }
    for secret in ["bob@example.com", "\"s1\"", "t1\""] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_security_event_is_refused_with_the_standard_error() {
    let folder = Folder::new();
    let config = config(&folder);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let to = receiver(&service);
    let user = json!({"format": "iss_sub", "iss": check::ISSUER, "sub": "alice"});
    let good = access("alice", "s1", now() - 1);
    let with = |name: &str, value: Value| {
        let mut claims = json!({
            "iss": check::ISSUER, "aud": "https://receiver", "iat": now(), "jti": "event",
            "sub_id": user, "events": {SESSION_REVOKED: {}},
        });
        claims[name] = value;
        claims
    };
    let another = "another secret of the tests, long enough too";
    let foreign = json!({"format": "iss_sub", "iss": "https://other", "sub": "alice"});
    for (token, code) in [
        (sign(&with("iss", json!("https://other")), SECRET), "invalid_issuer"),
        (sign(&with("sub_id", foreign), SECRET), "invalid_issuer"),
        (sign(&with("aud", json!("https://another")), SECRET), "invalid_audience"),
        (sign(&with("jti", json!("event")), another), "authentication_failed"),
        (sign(&with("events", json!(null)), SECRET), "invalid_request"),
        (sign(&with("sub", json!("bob")), SECRET), "invalid_request"),
        (logout_token(&json!({"sid": "s1"})), "invalid_request"),
        (good.clone(), "invalid_request"),
        (format!("{}\n", event_token(SESSION_REVOKED, &user)), "invalid_request"),
        ("garbage".to_owned(), "invalid_request"),
        (String::new(), "invalid_request"),
    ] {
        let (status, body) = push(to, &token);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body["err"].as_str()), (400, Some(code)), "{body}");
        assert!(body["description"].as_str().is_some_and(|text| text.len() > 20), "{body}");
    }
    let event = event_token(SESSION_REVOKED, &user);
    for (media_type, status) in [("application/jwt", 400), ("application/secevent+jwt; v=1", 202)] {
        assert!(client.ask(&Ask::get("/").bearer(&good)).await.allowed);
        assert_eq!(post(to, EVENTS_PATH, media_type, &event).unwrap().0, status, "{media_type}");
    }
    assert_eq!(client.ask(&Ask::get("/").bearer(&good)).await.reason, "token_revoked");
}

#[test]
fn a_receiver_that_can_accept_or_store_nothing_is_refused() {
    let folder = Folder::new();
    let complete = config(&folder);
    assert_eq!(folder.check_config(&complete).code, Some(0));
    let mut with_one = complete.clone();
    with_one["issuers"]["test"]["backchannel_logout"].take();
    assert_eq!(folder.check_config(&with_one).code, Some(0));
    with_one["issuers"]["test"]["security_events"].take();
    folder.check_config(&with_one).assert_refused(&["`receiver`", "`security_events`"]);
    let mut without_receiver = complete.clone();
    without_receiver["receiver"].take();
    let refused = folder.check_config(&without_receiver);
    refused.assert_refused(&["`issuers.test.backchannel_logout`", "`receiver.listen`"]);
    let mut without_address = complete.clone();
    without_address["receiver"] = json!({"max_connections": 5});
    folder.check_config(&without_address).assert_refused(&["`receiver", "listen"]);
    let mut of_table = complete;
    of_table["blacklist"] = json!({"postgres": {"url": "postgres://portcullis@127.0.0.1:1/db"}});
    folder.check_config(&of_table).assert_refused(&["`receiver`", "`blacklist.postgres`"]);
}
