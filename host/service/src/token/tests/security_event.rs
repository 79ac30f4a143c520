//! Tests of security event tokens: which events end tokens, and whose.

use proptest::prelude::*;

use super::*;
use crate::token::{Ended, Report, ReportKind, ReportOutcome, ReportRefusal};

const ISSUER: &str = "https://id";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const KIND: ReportKind = ReportKind::SecurityEvent;

fn revoked() -> String {
    format!("{CAEP}session-revoked")
}

/// The claims of a token of an issuer, as Shared Signals 1.0 has them: without `sub` and `exp`. Null
/// removes a claim.
fn event_claims(events: &Value, more: Value) -> Value {
    let mut all = members(json!({
        "iss": ISSUER, "aud": "https://receiver", "iat": NOW_SECS, "jti": "event-1",
        "sub": null, "exp": null, "events": events,
    }));
    all.extend(members(more));
    claims(Value::Object(all))
}

fn verify_with(ends: &str, claims: &Value) -> Result<Report, ReportRefusal> {
    let files = Files::new();
    let settings = json!({
        "issuer": ISSUER, "audiences": ["api"],
        "security_events": { "audiences": ["https://receiver"], "ends": ends, "lasts": "1h" },
    });
    let Single { verifier, .. } = Single::hmac(&files, settings);
    let header = json!({ "typ": "secevent+jwt" });
    let token = Signer::hmac().token_with_header(Algorithm::HS256, &header, claims);
    verifier.verify_report(KIND, &token, &verifier.report_issuers(KIND).unwrap(), NOW)
}

fn outcome_with(ends: &str, event: &str, more: Value) -> Result<ReportOutcome, String> {
    let report = verify_with(ends, &event_claims(&json!({ event: {} }), more));
    report.map(|report| report.event.outcome).map_err(|refusal| refusal.cause().detail())
}

fn outcome(more: Value) -> Result<ReportOutcome, String> {
    outcome_with("session", &revoked(), more)
}

fn ends(ended: &[Ended]) -> ReportOutcome {
    ReportOutcome::Ends(ended.to_vec())
}

fn subject() -> ReportOutcome {
    ends(&[Ended::Subject("u1".to_owned())])
}

fn session() -> ReportOutcome {
    ends(&[Ended::Session("s1".to_owned())])
}

fn iss_sub(sub: &str) -> Value {
    json!({ "format": "iss_sub", "iss": ISSUER, "sub": sub })
}

/// An identifier with one more member.
fn with(mut identifier: Value, name: &str, value: &str) -> Value {
    identifier[name] = json!(value);
    identifier
}

fn complex() -> Value {
    let session = json!({ "format": "opaque", "id": "s1" });
    json!({ "format": "complex", "user": iss_sub("u1"), "session": session })
}

#[test]
fn an_event_ends_the_tokens_of_whom_it_names() {
    let of = |sub_id: Value| outcome(json!({ "sub_id": sub_id }));
    assert_eq!(of(iss_sub("u1")), Ok(subject()));
    // The examples of CAEP name sessions so; it may be a subject, too.
    let opaque = json!({ "sub_id": { "format": "opaque", "id": "u1" } });
    let both = ends(&[Ended::Session("u1".to_owned()), Ended::Subject("u1".to_owned())]);
    assert_eq!(outcome(opaque.clone()), Ok(both));
    assert_eq!(outcome_with("subject", &revoked(), opaque.clone()), Ok(subject()));
    let disabled = format!("{RISC}account-disabled");
    assert_eq!(outcome_with("session", &disabled, opaque), Ok(subject()));
    assert_eq!(of(complex()), Ok(session()));
    let mut untyped = complex();
    untyped.as_object_mut().unwrap().remove("format");
    assert_eq!(of(untyped), Ok(session()));
    let token = json!({ "format": "jwt_id", "iss": ISSUER, "jti": "t1" });
    assert_eq!(of(token), Ok(ends(&[Ended::Token("t1".to_owned())])));
    let mail = json!({ "format": "email", "email": "u1@example.com" });
    let elsewhere = json!({ "format": "iss_sub", "iss": "https://other", "sub": "x" });
    let internal = json!({ "format": "opaque", "id": "17" });
    let aliases = json!({
        "format": "aliases", "identifiers": [mail, elsewhere, internal, iss_sub("u1")],
    });
    assert_eq!(of(aliases.clone()), Ok(subject()));
    assert_eq!(of(json!({ "user": aliases })), Ok(subject()));
    // As Google has it.
    let old = json!({ "subject_type": "iss-sub", "iss": ISSUER, "sub": "u1" });
    let events = json!({ format!("{RISC}account-disabled"): { "subject": old, "reason": "x" } });
    let report = verify_with("session", &event_claims(&events, json!({}))).unwrap();
    assert_eq!(report.event.outcome, subject());
    assert_eq!(outcome(json!({ "sub": "u1" })), Ok(subject()));
    assert_eq!(outcome(json!({ "sub": "u1", "sub_id": iss_sub("u1") })), Ok(subject()));
    let null = json!({ revoked(): { "subject": null, "event_timestamp": null } });
    let report = verify_with("session", &event_claims(&null, json!({ "sub_id": complex() })));
    assert_eq!(report.unwrap().event.outcome, session());
}

#[test]
fn an_account_event_ends_the_session_where_it_names_no_subject() {
    let mail = json!({ "format": "email", "email": "u1@example.com" });
    let session_id = json!({ "format": "opaque", "id": "s1" });
    let sub_id = json!({ "sub_id": { "user": mail, "session": session_id } });
    let disabled = format!("{RISC}account-disabled");
    assert_eq!(outcome_with("session", &disabled, sub_id.clone()), Ok(session()));
    assert_eq!(outcome_with("subject", &disabled, sub_id), Ok(ReportOutcome::Unmatched));
}

#[test]
fn the_reach_of_an_event_depends_on_it_and_on_the_configuration() {
    let of = |ends: &str, event: &str| outcome_with(ends, event, json!({ "sub_id": complex() }));
    for event in ["session-revoked", "token-claims-change"] {
        assert_eq!(of("session", &format!("{CAEP}{event}")), Ok(session()), "{event}");
        assert_eq!(of("subject", &format!("{CAEP}{event}")), Ok(subject()), "{event}");
    }
    for event in [
        format!("{CAEP}credential-change"),
        format!("{RISC}account-disabled"),
        format!("{RISC}account-purged"),
        format!("{RISC}account-credential-change-required"),
        format!("{RISC}credential-compromise"),
        format!("{RISC}sessions-revoked"),
        "https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked".to_owned(),
    ] {
        assert_eq!(of("session", &event), Ok(subject()), "{event}");
    }
    for event in [
        format!("{CAEP}assurance-level-change"),
        format!("{RISC}account-enabled"),
        "https://schemas.openid.net/secevent/ssf/event-type/verification".to_owned(),
        "session-revoked".to_owned(),
        String::new(),
    ] {
        assert_eq!(of("session", &event), Ok(ReportOutcome::Nothing), "{event}");
    }
}

#[test]
fn whom_no_token_names_is_told() {
    for sub_id in [
        json!({ "format": "email", "email": "u1@example.com" }),
        json!({ "format": "complex", "tenant": { "format": "opaque", "id": "t" } }),
        json!({ "format": "complex", "session": iss_sub("u1") }),
        json!({ "format": "aliases", "identifiers": [] }),
        json!({}),
    ] {
        let found = outcome(json!({ "sub_id": sub_id.clone() }));
        assert_eq!(found, Ok(ReportOutcome::Unmatched), "{sub_id}");
    }
    assert_eq!(outcome(json!({})), Ok(ReportOutcome::Unmatched), "it names no subject");
}

#[test]
fn a_subject_that_could_be_read_in_two_ways_is_refused() {
    let other = json!({ "format": "iss_sub", "iss": "https://other", "sub": "u1" });
    let blank = json!({ "format": "iss_sub", "iss": ISSUER, "sub": " u1" });
    let two = json!({ "format": "aliases", "identifiers": [iss_sub("u1"), iss_sub("u2")] });
    for (more, expected) in [
        (json!({ "sub_id": other }), "unknown_issuer: https://other"),
        (json!({ "sub_id": { "user": other } }), "unknown_issuer: https://other"),
        (json!({ "sub_id": blank }), "malformed_claim: sub_id"),
        (json!({ "sub_id": two }), "malformed_claim: sub_id"),
        (json!({ "sub_id": "u1" }), "malformed_claim: sub_id"),
        (json!({ "sub_id": { "format": "iss_sub", "sub": "u1" } }), "malformed_claim: sub_id"),
        (json!({ "sub_id": { "format": "opaque", "id": 1 } }), "malformed_claim: sub_id"),
        (json!({ "sub_id": { "format": 1 } }), "malformed_claim: sub_id"),
        (json!({ "sub_id": { "user": { "id": "u1" } } }), "malformed_claim: sub_id"),
        (json!({ "sub_id": iss_sub("u1"), "sub": "u2" }), "malformed_claim: sub"),
        (json!({ "sub_id": with(iss_sub("u1"), "id", "u2") }), "malformed_claim: sub_id"),
        (
            json!({ "sub_id": with(iss_sub("u1"), "subject_type", "opaque") }),
            "malformed_claim: sub_id",
        ),
    ] {
        assert_eq!(outcome(more.clone()), Err(expected.to_owned()), "{more}");
    }
    let told_twice = json!({ revoked(): { "subject": iss_sub("u1") } });
    let by = |sub| verify_with("session", &event_claims(&told_twice, json!({ "sub_id": sub })));
    assert!(by(iss_sub("u1")).is_ok());
    let refused = by(iss_sub("u2")).unwrap_err();
    assert_eq!(refused.cause().detail(), "malformed_claim: sub_id");
}

#[test]
fn all_that_several_events_in_one_token_end_ends() {
    let events = json!({
        revoked(): { "event_timestamp": NOW_SECS - 9 },
        format!("{CAEP}credential-change"): { "event_timestamp": NOW_SECS - 5 },
        "https://example.com/unknown": {},
    });
    let event = verify_with("session", &event_claims(&events, json!({ "sub_id": complex() })));
    let event = event.unwrap().event;
    let both = [Ended::Subject("u1".to_owned()), Ended::Session("s1".to_owned())];
    let ReportOutcome::Ends(ended) = event.outcome else { unreachable!("it ends tokens") };
    assert!(ended.len() == 2 && both.iter().all(|one| ended.contains(one)), "{ended:?}");
    assert_eq!(event.at, Timestamp::from_secs(NOW_SECS - 5));
}

#[test]
fn an_event_happened_when_it_says_or_else_when_it_was_reported() {
    let at = |payload: Value, more: Value| {
        let mut more = members(more);
        more.insert("sub_id".to_owned(), iss_sub("u1"));
        let claims = event_claims(&json!({ revoked(): payload }), Value::Object(more));
        let report = verify_with("session", &claims);
        report.map(|report| report.event.at.as_secs()).map_err(|error| error.cause().detail())
    };
    assert_eq!(at(json!({}), json!({})), Ok(NOW_SECS));
    assert_eq!(at(json!({}), json!({ "toe": NOW_SECS - 5 })), Ok(NOW_SECS - 5));
    let payload = json!({ "event_timestamp": NOW_SECS - 9 });
    assert_eq!(at(payload, json!({ "toe": NOW_SECS - 5 })), Ok(NOW_SECS - 9));
    // It was not after the report, and no subject is locked out.
    for late in [json!(NOW_SECS + 1), json!(NOW_SECS * 1000), json!(-1)] {
        let found = at(json!({ "event_timestamp": late.clone() }), json!({}));
        assert_eq!(found, Ok(NOW_SECS), "{late}");
    }
    let refused = at(json!({ "event_timestamp": "now" }), json!({}));
    assert_eq!(refused, Err("malformed_claim: event_timestamp".to_owned()));
    // What an attacker got before the account was disabled ends, too.
    let disabled =
        json!({ format!("{RISC}account-disabled"): { "event_timestamp": NOW_SECS - 9 } });
    let claims = event_claims(&disabled, json!({ "sub_id": iss_sub("u1") }));
    assert_eq!(verify_with("session", &claims).unwrap().event.at, NOW);
    // Deliveries may be days late.
    assert_eq!(at(json!({}), json!({ "iat": NOW_SECS - 864_000 })), Ok(NOW_SECS - 864_000));
}

#[test]
fn what_is_no_security_event_token_for_this_receiver_is_refused() {
    let events = json!({ revoked(): {} });
    for (more, expected) in [
        (json!({}), "ok"),
        (json!({ "aud": ["x", "https://receiver"] }), "ok"),
        (json!({ "aud": "api" }), "wrong_audience"),
        (json!({ "aud": null }), "missing_claim: aud"),
        (json!({ "iat": null }), "missing_claim: iat"),
        (json!({ "iat": NOW_SECS + 6 }), "issued_in_future: iat"),
        (json!({ "jti": null }), "missing_claim: jti"),
        (json!({ "exp": NOW_SECS - 5 }), "expired"),
        (json!({ "nonce": "n" }), "malformed_claim: nonce"),
        (json!({ "events": null }), "missing_claim: events"),
        (json!({ "events": [revoked()] }), "malformed_claim: events"),
        (json!({ "events": {} }), "wrong_token_type: events"),
        (json!({ "events": { revoked(): null } }), "malformed_claim: events"),
    ] {
        let mut all = members(json!({ "sub_id": iss_sub("u1") }));
        all.extend(members(more.clone()));
        let found = verify_with("session", &event_claims(&events, Value::Object(all)));
        let found = found.map_or_else(|error| error.cause().detail(), |_| "ok".to_owned());
        assert_eq!(found, expected, "{more}");
    }
}

#[test]
fn no_kind_of_token_is_taken_for_another() {
    let files = Files::new();
    let reports = json!({ "audiences": ["all"], "ends": "session" });
    let settings = json!({
        "issuer": ISSUER, "audiences": ["all"],
        "security_events": reports, "backchannel_logout": reports,
    });
    let single = Single::hmac(&files, settings);
    let logout_event = "http://schemas.openid.net/event/backchannel-logout";
    let base = json!({ "iss": ISSUER, "aud": "all", "sid": "s1" });
    let with = |events: Value| {
        let mut claims = members(base.clone());
        claims.insert("events".to_owned(), events);
        claims_of(claims)
    };
    for (name, kind, claims, expected) in [
        (
            "access",
            "at+jwt",
            claims_of(members(base.clone())),
            ["ok", "missing_claim", "missing_claim"],
        ),
        (
            "logout",
            "logout+jwt",
            with(json!({ logout_event: {} })),
            ["wrong_header_type", "ok", "wrong_token_type"],
        ),
        (
            "event",
            "secevent+jwt",
            with(json!({ revoked(): {} })),
            ["wrong_header_type", "wrong_token_type", "ok"],
        ),
    ] {
        for header in [json!({ "typ": kind }), json!({ "typ": "JWT" }), json!({})] {
            let token = Signer::hmac().token_with_header(Algorithm::HS256, &header, &claims);
            let report = |kind| {
                let issuers = single.verifier.report_issuers(kind).unwrap();
                let verified = single.verifier.verify_report(kind, &token, &issuers, NOW);
                verified.map_or_else(|error| error.cause().code(), |_| "ok")
            };
            let access = single.verdict(&token).replace("wrong_token_type", "wrong_header_type");
            let found = [access.as_str(), report(ReportKind::Logout), report(KIND)];
            assert_eq!(found, expected, "{name} {header}");
        }
    }
}

#[test]
fn a_token_id_is_no_name_of_a_token_where_there_are_several_issuers() {
    let files = Files::new();
    let Signer::Hmac(secret) = Signer::hmac() else { unreachable!() };
    let main = json!({
        "issuer": ISSUER, "keys": [files.secret("main", &secret)],
        "security_events": { "audiences": ["https://receiver"], "ends": "session" },
    });
    let other = json!({ "issuer": "https://other", "keys": [files.secret("other", &[7; 64])] });
    for (issuers, expected) in [
        (json!({ "main": main }), ends(&[Ended::Token("t1".to_owned())])),
        (json!({ "main": main, "other": other }), ReportOutcome::Unmatched),
    ] {
        let (verifier, _) = built(json!({ "issuers": issuers }));
        let sub_id = json!({ "format": "jwt_id", "iss": ISSUER, "jti": "t1" });
        let claims = event_claims(&json!({ revoked(): {} }), json!({ "sub_id": sub_id }));
        let token = Signer::hmac().token(Algorithm::HS256, &claims);
        let issuers = verifier.report_issuers(KIND).unwrap();
        let report = verifier.verify_report(KIND, &token, &issuers, NOW).unwrap();
        assert_eq!(report.event.outcome, expected);
    }
}

fn claims_of(members: Map<String, Value>) -> Value {
    claims(Value::Object(members))
}

/// Subject identifiers, most of them malformed.
fn identifiers() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(1)),
        Just(json!(ISSUER)),
        Just(json!("https://other")),
        "(iss_sub|opaque|jwt_id|complex|aliases|email|[ a-z]{0,3})".prop_map(Value::from),
    ];
    let name = "(format|subject_type|iss|sub|id|jti|user|session|identifiers)";
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_subject_identifier_ends_tokens_of_a_blank_name_or_panics(sub_id in identifiers()) {
        if let Ok(ReportOutcome::Ends(ended)) = outcome(json!({ "sub_id": sub_id })) {
            prop_assert!(!ended.is_empty());
            for Ended::Token(name) | Ended::Session(name) | Ended::Subject(name) in ended {
                prop_assert!(!name.is_empty() && name.trim() == name);
            }
        }
    }
}
