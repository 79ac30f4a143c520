//! Tests of parsing events: everything unambiguous is accepted, and nothing else.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn id(jti: &str) -> TokenId {
    TokenId::new(jti).unwrap()
}

fn parse(json: &Value) -> Result<Event, ParseEventError> {
    Event::parse(json.to_string().as_bytes())
}

fn add(secs: Option<i64>) -> Event {
    Event::Add { token_id: id("j"), expires_at: secs.map(Timestamp::from_secs) }
}

#[test]
fn events_as_the_relay_sends_them_are_understood() {
    let sent = br#"{"type": "add", "jti": "j", "expires_at": "2033-05-18T03:33:19+00:00", "timestamp": "2026-11-22T03:32:40.069443", "user_id": "u", "reason": "logout"}"#;
    assert_eq!(Event::parse(sent), Ok(add(Some(1_999_999_999))));
    let sent = br#"{"type": "remove", "jti": "j", "timestamp": "2026-11-22T03:32:40.069443"}"#;
    assert_eq!(Event::parse(sent), Ok(Event::Unrevoke { token_id: id("j") }));
}

#[test]
fn the_expiry_has_many_names_and_may_be_missing() {
    let at = "2033-05-18T03:33:19Z";
    let cases = [
        (json!({"jti": "j", "expires_at": at}), Some(1_999_999_999)),
        (json!({"jti": "j", "expiry": at}), Some(1_999_999_999)),
        (json!({"jti": "j", "expire_at": at}), Some(1_999_999_999)),
        (json!({"jti": "j", "exp": 1_999_999_999}), Some(1_999_999_999)),
        (json!({"jti": "j", "exp": 1_700_000_000, "expires_at": at}), Some(1_999_999_999)),
        (json!({"jti": "j", "exp": 1_700_000_000, "expires_at": null}), Some(1_700_000_000)),
        (json!({"jti": "j", "exp": 1_700_000_000, "expires_at": 0}), Some(1_700_000_000)),
        // Expired already: stored, counts for nothing, swept.
        (
            json!({"type": "add", "jti": "j", "expires_at": "2020-01-01T00:00:00Z"}),
            Some(1_577_836_800),
        ),
        (json!({"jti": "j"}), None),
        (json!({"type": "add", "jti": "j", "expires_at": null}), None),
        (json!({"type": "add", "jti": "j", "expires_at": "0001-01-01T00:00:00Z"}), None),
    ];
    for (sent, expected) in cases {
        assert_eq!(parse(&sent), Ok(add(expected)), "{sent}");
    }
}

#[test]
fn an_expiry_that_stands_for_not_set_is_none_and_is_detected() {
    let unset = |sent: &Value| has_unset_expiry(&fields(sent.to_string().as_bytes()).unwrap());
    for sent in [
        json!({"jti": "j", "exp": 0}),
        json!({"jti": "j", "exp": -1}),
        json!({"jti": "j", "expires_at": "1970-01-01T00:00:00Z"}),
        json!({"jti": "j", "expiry": "0001-01-01T00:00:00Z"}),
        json!({"jti": "j", "exp": 0, "expires_at": null}),
    ] {
        assert_eq!(parse(&sent), Ok(add(None)), "{sent}");
        assert!(unset(&sent), "{sent}");
    }
    for sent in [
        json!({"jti": "j"}),
        json!({"jti": "j", "expires_at": null}),
        json!({"jti": "j", "exp": 1_700_000_000}),
        json!({"jti": "j", "exp": 1_700_000_000, "expires_at": 0}),
        json!({"jti": "j", "exp": "soon"}),
    ] {
        assert!(!unset(&sent), "{sent}");
    }
    let sent = json!({"type": "cutoff", "sub": "u", "issued_before": 10, "exp": 0});
    assert!(matches!(parse(&sent), Ok(Event::CutOff { expires_at: None, .. })));
}

#[test]
fn any_text_that_is_not_blank_is_a_token_id() {
    let long = "a".repeat(10_000);
    for jti in [long.as_str(), "\u{c720}\u{b2c8}\u{cf54}\u{b4dc}", "a b", "\"", "\u{0}"] {
        let event = Event::Add { token_id: id(jti), expires_at: None };
        assert_eq!(parse(&json!({"type": "add", "jti": jti, "extra": [{}]})), Ok(event));
    }
}

#[test]
fn what_is_not_an_event_is_an_error() {
    use ParseEventError as E;
    let cases: &[(&str, E)] = &[
        ("", E::NotAnObject),
        ("{invalid", E::NotAnObject),
        (r#"{"type":"add","jti":"cut"#, E::NotAnObject),
        (r#"{"jti":"j"} trailing"#, E::NotAnObject),
        ("[]", E::NotAnObject),
        ("null", E::NotAnObject),
        (r#""add""#, E::NotAnObject),
        (r#"{"jti":"j","jti":"k"}"#, E::DuplicateName),
        (r#"{"jti":"j","j\u0074i":"j"}"#, E::DuplicateName),
        (r#"{"type":"add","jti":"j","type":"remove"}"#, E::DuplicateName),
        (r#"{"jti":"j","meta":[{"a":{"b":1,"b":1}}]}"#, E::DuplicateName),
        (r#"{"type":"delete","jti":"j"}"#, E::UnknownType),
        (r#"{"type":"ADD","jti":"j"}"#, E::UnknownType),
        (r#"{"type":"","jti":"j"}"#, E::UnknownType),
        (r#"{"type":null,"jti":"j"}"#, E::UnknownType),
        (r#"{"type":null,"jti":null}"#, E::UnknownType),
        (r#"{"type":["add"],"jti":"j"}"#, E::UnknownType),
        ("{}", E::NoTokenId),
        (r#"{"type":"add","jti":"","expires_at":"2099-12-30T12:00:00Z"}"#, E::NoTokenId),
        (r#"{"type":"add","jti":" "}"#, E::NoTokenId),
        (r#"{"type":"add","jti":null}"#, E::NoTokenId),
        (r#"{"type":"add","jti":7}"#, E::NoTokenId),
        (r#"{"type":"remove","jti":""}"#, E::NoTokenId),
        (r#"{"type":"remove","sub":"u"}"#, E::NoTokenId),
        (r#"{"jti":"j","expires_at":"soon"}"#, E::NotATime("expires_at")),
        (r#"{"jti":"j","exp":true}"#, E::NotATime("exp")),
    ];
    for (sent, expected) in cases {
        assert_eq!(Event::parse(sent.as_bytes()), Err(*expected), "{sent}");
    }
    assert_eq!(Event::parse(b"{\"jti\":\"\xff\"}"), Err(E::NotAnObject));
}

#[test]
fn a_cut_off_goes_by_subject_session_or_issuer() {
    let cases = [
        (json!({"sub": "u"}), Cutoff::subject(None, "u")),
        (json!({"sub": "u", "iss": "i"}), Cutoff::subject(Some("i"), "u")),
        (json!({"sid": "s", "sub": null}), Cutoff::session(None, "s")),
        (json!({"sid": "s", "iss": "i"}), Cutoff::session(Some("i"), "s")),
        (json!({"iss": "i", "jti": "ignored"}), Cutoff::issuer("i")),
    ];
    for (mut sent, cutoff) in cases {
        let cutoff = cutoff.unwrap();
        sent["type"] = json!("lift");
        assert_eq!(parse(&sent), Ok(Event::LiftCutoff { cutoff }), "{sent}");
        sent["type"] = json!("cutoff");
        sent["issued_before"] = json!("1970-01-01T00:00:10Z");
        let issued_before = Timestamp::from_secs(10);
        let event = Event::CutOff { cutoff, issued_before, except: None, expires_at: None };
        assert_eq!(parse(&sent), Ok(event), "{sent}");
        sent["exp"] = json!(1_999_999_999);
        let expires_at = Some(Timestamp::from_secs(1_999_999_999));
        let event = Event::CutOff { cutoff, issued_before, except: None, expires_at };
        assert_eq!(parse(&sent), Ok(event), "{sent}");
    }
}

#[test]
fn a_cut_off_that_could_cut_too_much_is_an_error() {
    use ParseEventError as E;
    let cases = [
        (json!({"issued_before": 1}), E::NoCutoffTarget),
        (json!({"sub": "", "issued_before": 1}), E::NoCutoffTarget),
        (json!({"sub": 5, "iss": "i", "issued_before": 1}), E::NoCutoffTarget),
        (json!({"sub": "u", "iss": "", "issued_before": 1}), E::NoCutoffTarget),
        (json!({"sub": "u", "sid": "s", "issued_before": 1}), E::TwoCutoffTargets),
        (json!({"sub": "u"}), E::NoIssuedBefore),
        (json!({"sub": "u", "issued_before": null}), E::NoIssuedBefore),
        (json!({"sub": "u", "issued_before": "now"}), E::NotATime("issued_before")),
        (json!({"sub": "u", "issued_before": 1_999_999_999_000_i64}), E::IssuedBeforeTooLate),
    ];
    for (mut sent, expected) in cases {
        sent["type"] = json!("cutoff");
        assert_eq!(parse(&sent), Err(expected), "{sent}");
    }
}

#[test]
fn a_cut_off_of_a_subject_may_except_a_session() {
    use ParseEventError as E;
    let except = |sent: Value| match parse(&sent) {
        Ok(Event::CutOff { except, .. }) => Ok(except),
        Ok(event) => panic!("{event:?}"),
        Err(error) => Err(error),
    };
    let with = |more: Value| {
        let mut sent = json!({"type": "cutoff", "sub": "u", "issued_before": 10});
        sent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        sent
    };
    let session = |secs: Option<i64>| Ok(Exception::new("s", secs.map(Timestamp::from_secs)).ok());
    assert_eq!(except(with(json!({"except_sid": "s"}))), session(None));
    assert_eq!(except(with(json!({"except_sid": "s", "iss": "i"}))), session(None));
    assert_eq!(except(with(json!({"except_sid": null}))), Ok(None));
    let bound = |time: Value| with(json!({"except_sid": "s", "except_issued_before": time}));
    assert_eq!(except(bound(json!(9))), session(Some(9)));
    assert_eq!(except(bound(json!(null))), session(None));
    assert_eq!(except(bound(json!(10))), Ok(None), "it spares nothing");

    assert_eq!(except(bound(json!("now"))), Err(E::NotATime("except_issued_before")));
    for unusable in [json!(""), json!(" "), json!(5), json!(["s"])] {
        let sent = with(json!({"except_sid": unusable}));
        assert_eq!(except(sent), Err(E::NoExceptedSession));
    }
    for target in [json!({"sid": "s"}), json!({"iss": "i"})] {
        let mut sent = target;
        sent["type"] = json!("cutoff");
        sent["issued_before"] = json!(10);
        sent["except_sid"] = json!("other");
        assert_eq!(parse(&sent), Err(E::ExceptionWithoutSubject));
    }
}

#[test]
fn only_a_cut_off_without_a_time_gets_the_default() {
    let default = Timestamp::from_millis(1_999_999_999_069);
    let completed = |sent: &Value| {
        let fields = fields(sent.to_string().as_bytes()).unwrap();
        Event::from_fields(&fields, Some(default))
    };
    for sent in [
        json!({"type": "cutoff", "sub": "u"}),
        json!({"type": "cutoff", "sub": "u", "issued_before": null}),
    ] {
        let event = completed(&sent);
        assert!(
            matches!(event, Ok(Event::CutOff { issued_before, .. }) if issued_before == default),
            "{event:?}"
        );
        assert_eq!(parse(&sent), Err(ParseEventError::NoIssuedBefore), "from a broker");
    }
    for sent in [
        json!({"type": "cutoff", "sub": "u", "issued_before": 10}),
        json!({"type": "cutoff", "sub": "u", "issued_before": "now"}),
        json!({"type": "lift", "sub": "u"}),
        json!({"jti": "j"}),
    ] {
        assert_eq!(completed(&sent), parse(&sent), "{sent}");
    }
}

#[test]
fn neither_events_nor_errors_show_what_was_sent() {
    let event = parse(&json!({"jti": "hush"})).unwrap();
    assert!(!format!("{event:?}").contains("hush"));
    for sent in [json!({"type": "hush", "jti": "hush"}), json!({"jti": "j", "exp": "hush"})] {
        let error = parse(&sent).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}

proptest! {
    #[test]
    fn no_message_panics(message in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Event::parse(&message);
    }

    #[test]
    fn no_object_panics(
        kind in prop::sample::select(vec!["add", "remove", "cutoff", "lift", "x"]),
        name in prop::sample::select(vec!["jti", "sub", "sid", "iss", "exp", "issued_before"]),
        text in ".*",
        number in any::<f64>(),
    ) {
        for value in [json!(text), json!(number)] {
            let _ = parse(&json!({"type": kind, name: value}));
        }
    }

    #[test]
    fn every_form_of_the_expiry_gives_the_same_event(
        jti in "\\PC*[a-z]",
        millis in 946_684_800_000..253_402_000_000_000_i64,
    ) {
        let time = jiff::Timestamp::from_millisecond(millis).unwrap();
        let sent = json!({"type": "add", "jti": jti, "expires_at": time.to_string()});
        let expires_at = Some(Timestamp::from_millis(millis));
        prop_assert_eq!(parse(&sent), Ok(Event::Add { token_id: id(&jti), expires_at }));
    }
}
