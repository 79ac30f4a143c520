//! Tests of logout tokens: which ones are accepted, and that they are never taken for access tokens.

use super::*;
use crate::token::{Ended, Report, ReportKind, ReportOutcome, ReportRefusal};

const ISSUER: &str = "https://id";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Claims with which a logout token is good, unless `more` says otherwise. Null removes a claim.
fn logout_claims(more: Value) -> Value {
    let mut all = members(json!({
        "iss": ISSUER, "aud": "client", "events": { EVENT: {} }, "sid": "s1",
    }));
    all.extend(members(more));
    claims(Value::Object(all))
}

fn single(files: &Files, ends: &str) -> Single {
    let settings = json!({
        "issuer": ISSUER, "audiences": ["api"],
        "backchannel_logout": { "audiences": ["client", "other"], "ends": ends, "lasts": "1h" },
    });
    Single::hmac(files, settings)
}

fn verify(header: &Value, claims: &Value) -> Result<Report, ReportRefusal> {
    verify_with("session", header, claims)
}

fn verify_with(ends: &str, header: &Value, claims: &Value) -> Result<Report, ReportRefusal> {
    let files = Files::new();
    let Single { verifier, .. } = single(&files, ends);
    let token = Signer::hmac().token_with_header(Algorithm::HS256, header, claims);
    verifier.verify_report(
        ReportKind::Logout,
        &token,
        &verifier.report_issuers(ReportKind::Logout).unwrap(),
        NOW,
    )
}

fn detail(header: &Value, more: Value) -> String {
    verify(header, &logout_claims(more))
        .map_or_else(|error| error.cause().detail(), |_| "ok".to_owned())
}

fn outcome(ends: &str, more: Value) -> ReportOutcome {
    let header = json!({ "typ": "logout+jwt" });
    verify_with(ends, &header, &logout_claims(more)).unwrap().event.outcome
}

#[test]
fn a_logout_ends_a_session_or_else_all_tokens_of_a_subject() {
    let token = verify(&json!({}), &logout_claims(json!({}))).unwrap();
    assert_eq!((token.issuer_name.as_str(), token.issuer.as_str()), ("main", ISSUER));
    assert_eq!((token.event.at, token.lasts), (NOW, Some(Duration::from_hours(1))));
    let session = ReportOutcome::Ends(vec![Ended::Session("s1".to_owned())]);
    assert!(outcome("session", json!({})) == session, "with sub and sid");
    assert!(outcome("session", json!({ "sub": null })) == session);
    let subject = ReportOutcome::Ends(vec![Ended::Subject("u1".to_owned())]);
    assert!(outcome("session", json!({ "sid": null })) == subject);
    assert!(outcome("subject", json!({})) == subject, "with sub and sid");
    let claims = logout_claims(json!({ "sub": null }));
    let refused = verify_with("subject", &json!({}), &claims).unwrap_err();
    assert_eq!(refused.cause().detail(), "missing_claim: sub");
    assert!(!format!("{token:?}").contains("s1"), "{token:?}");
}

#[test]
fn a_logout_token_has_its_type_or_none() {
    for header in [
        json!({}),
        json!({ "typ": "JWT" }),
        json!({ "typ": "logout+jwt" }),
        json!({ "typ": "application/logout+JWT" }),
    ] {
        assert_eq!(detail(&header, json!({})), "ok", "{header}");
    }
    for kind in ["at+jwt", "secevent+jwt", "dpop+jwt", "id+jwt", ""] {
        let refused = detail(&json!({ "typ": kind }), json!({}));
        assert!(refused.starts_with("wrong_header_type"), "{kind}: {refused}");
    }
}

#[test]
fn what_is_no_logout_of_a_configured_client_is_refused() {
    let of_event = |value: Value| json!({ "events": { EVENT: value } });
    for (more, expected) in [
        (json!({ "aud": ["x", "other"] }), "ok"),
        (json!({ "aud": "api" }), "wrong_audience"),
        (json!({ "aud": null }), "missing_claim: aud"),
        (json!({ "aud": [] }), "wrong_audience"),
        (json!({ "iss": "https://other" }), "unknown_issuer: https://other"),
        (json!({ "iss": null }), "missing_claim: iss"),
        (json!({ "iat": null }), "missing_claim: iat"),
        (json!({ "exp": null }), "ok"),
        (json!({ "exp": null, "iat": NOW_SECS - 304 }), "ok"),
        (json!({ "exp": null, "iat": NOW_SECS - 305 }), "too_old: iat"),
        (json!({ "iat": NOW_SECS - 3000 }), "ok"),
        (json!({ "jti": null }), "missing_claim: jti"),
        (json!({ "sub": null, "sid": null }), "missing_claim: sub"),
        (json!({ "sid": "" }), "malformed_claim: sid"),
        (json!({ "exp": NOW_SECS - 5 }), "expired"),
        (json!({ "iat": NOW_SECS + 6 }), "issued_in_future: iat"),
        (json!({ "nbf": NOW_SECS + 6 }), "not_yet_valid"),
        (json!({ "events": null }), "missing_claim: events"),
        (json!({ "events": [EVENT] }), "malformed_claim: events"),
        (json!({ "events": EVENT }), "malformed_claim: events"),
        (json!({ "events": {} }), "wrong_token_type: events"),
        (json!({ "events": { "https://x/other": {} } }), "wrong_token_type: events"),
        (of_event(json!({ "more": 1 })), "ok"),
        (of_event(json!(true)), "malformed_claim: events"),
        (of_event(json!(null)), "malformed_claim: events"),
        (json!({ "nonce": "n" }), "malformed_claim: nonce"),
    ] {
        assert_eq!(detail(&json!({}), more.clone()), expected, "{more}");
    }
    let null_nonce = Value::Object({
        let mut claims = members(logout_claims(json!({})));
        claims.insert("nonce".to_owned(), Value::Null);
        claims
    });
    assert_eq!(
        verify(&json!({}), &null_nonce).unwrap_err().cause().detail(),
        "malformed_claim: nonce"
    );
}

#[test]
fn neither_kind_of_token_is_taken_for_the_other() {
    let files = Files::new();
    let single = single(&files, "session");
    let issuers = single.verifier.report_issuers(ReportKind::Logout).unwrap();
    let logout = logout_claims(json!({ "aud": ["client", "api"] }));
    let access = claims(json!({ "iss": ISSUER, "aud": ["client", "api"], "sid": "s1" }));
    for (claims, as_access, as_logout) in
        [(&access, "ok", "missing_claim"), (&logout, "wrong_token_type", "ok")]
    {
        let token = Signer::hmac().token(Algorithm::HS256, claims);
        assert_eq!(single.verdict(&token), as_access);
        let logout = single.verifier.verify_report(ReportKind::Logout, &token, &issuers, NOW);
        assert_eq!(logout.map_or_else(|error| error.cause().code(), |_| "ok"), as_logout);
    }
}

#[test]
fn a_forged_logout_is_refused_and_so_is_one_of_an_issuer_without_logouts() {
    let files = Files::new();
    let other = json!({ "issuer": "https://other", "keys": [files.secret("other", &[7; 64])] });
    let Signer::Hmac(secret) = Signer::hmac() else { unreachable!() };
    let main = json!({
        "issuer": ISSUER, "keys": [files.secret("main", &secret)],
        "backchannel_logout": { "audiences": ["client"], "ends": "session" },
    });
    let (verifier, _) = built(json!({ "issuers": { "main": main, "other": other } }));
    let issuers = verifier.report_issuers(ReportKind::Logout).unwrap();
    let all = verifier.issuer_set(&["main".to_owned(), "other".to_owned()]).unwrap();
    let verdict = |token: &str, set: &IssuerSet| {
        let refusal = verifier.verify_report(ReportKind::Logout, token, set, NOW).err();
        assert!(!matches!(refusal, Some(ReportRefusal::Rejected { .. })), "{refusal:?}");
        refusal.map_or("ok", |refusal| refusal.cause().code())
    };
    let signed = |secret: &[u8], iss: &str| {
        let claims = logout_claims(json!({ "iss": iss }));
        Signer::Hmac(secret.to_vec()).token(Algorithm::HS256, &claims)
    };
    assert_eq!(verdict(&signed(&secret, ISSUER), &issuers), "ok");
    assert_eq!(verdict(&signed(&[7; 64], ISSUER), &issuers), "bad_signature");
    assert_eq!(verdict(&signed(&[7; 64], "https://other"), &issuers), "unknown_issuer");
    let token = signed(&[7; 64], "https://other");
    let refused = verifier.verify_report(ReportKind::Logout, &token, &all, NOW).unwrap_err();
    assert_eq!(refused.cause().code(), "unknown_issuer", "it is signed, and not accepted");
    let foreign = Single::hmac(&files, json!({})).set;
    assert_eq!(verdict(&signed(&secret, ISSUER), &foreign), "unknown_issuer");
}

#[test]
fn settings_that_accept_no_logout_are_refused() {
    for (more, expected) in [
        (
            json!({ "issuer": ISSUER, "backchannel_logout": { "audiences": [], "ends": "subject" } }),
            "issuers.main.backchannel_logout.audiences: is empty",
        ),
        (
            json!({ "issuer": ISSUER, "backchannel_logout": { "audiences": [" "], "ends": "subject" } }),
            "issuers.main.backchannel_logout.audiences",
        ),
        (
            json!({ "backchannel_logout": { "audiences": ["client"], "ends": "subject" } }),
            "issuers.main.backchannel_logout: needs the `iss`",
        ),
        (
            json!({
                "issuer": ISSUER, "max_lifetime": "2h",
                "backchannel_logout": { "audiences": ["client"], "ends": "subject", "lasts": "1h" },
            }),
            "issuers.main.backchannel_logout.lasts: is shorter than `max_lifetime`",
        ),
    ] {
        let files = Files::new();
        let mut issuer = members(more);
        issuer.insert("keys".to_owned(), json!([files.secret("secret", &[7; 64])]));
        let error = build_error(json!({ "issuers": { "main": issuer } }));
        assert!(error.contains(expected), "{error}");
    }
}
