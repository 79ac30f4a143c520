//! Tests of the JSON forms for broker and store: readers must read what was meant.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_764_028_800_069);
const MARGIN: Duration = Duration::from_secs(11);

fn token(jti: &str) -> Target {
    Target::token(jti).unwrap()
}

fn revoke_until(secs: i64) -> Revocation {
    Revocation::revoke(token("j"), NOW).expires_at(Some(Timestamp::from_secs(secs)))
}

fn targets() -> impl Strategy<Value = Target> {
    let name = "\\PC{0,8}[a-z\"\\\\]\\PC{0,8}";
    let issuer = prop::option::of(name);
    prop_oneof![
        name.prop_map(|jti| token(&jti)),
        (issuer.clone(), name)
            .prop_map(|(issuer, name)| Target::subject(issuer.as_deref(), &name).unwrap()),
        (issuer, name)
            .prop_map(|(issuer, name)| Target::session(issuer.as_deref(), &name).unwrap()),
        name.prop_map(|issuer| Target::issuer(&issuer).unwrap()),
    ]
}

/// Times that tokens may have, and some that dates do not reach.
fn times() -> impl Strategy<Value = Timestamp> {
    let millis = prop_oneof![9 => 0..253_402_200_000_000_i64, 1 => 0..253_402_300_799_000_i64];
    millis.prop_map(Timestamp::from_millis)
}

fn revocations() -> impl Strategy<Value = Revocation> {
    let text = || prop::option::of("\\PC{0,12}");
    let session = prop::option::of("[a-z\"\\\\]\\PC{0,8}");
    let times = prop::option::of((times(), prop::option::of(times())));
    (targets(), times, session, text(), text()).prop_map(
        |(target, times, session, user_id, reason)| {
            let revocation = match times {
                Some((issued_before, expires_at)) => {
                    Revocation::revoke(target, issued_before).expires_at(expires_at)
                }
                None => Revocation::unrevoke(target),
            };
            let revocation = revocation.except_session(session.as_deref()).unwrap();
            revocation.user_id(user_id).reason(reason)
        },
    )
}

#[test]
fn a_revoked_token_is_written_as_publishers_of_today_write_it() {
    let revocation =
        revoke_until(1_999_999_999).user_id(Some("u".into())).reason(Some("logout".into()));
    assert_eq!(
        revocation.to_event_json(NOW, None),
        r#"{"type": "add", "jti": "j", "expires_at": "2033-05-18T03:33:19+00:00", "timestamp": "2025-11-25T00:00:00.069000", "user_id": "u", "reason": "logout"}"#
    );
    assert_eq!(
        revocation.to_stored_json(NOW),
        r#"{"user_id": "u", "reason": "logout", "blacklisted_at": "2025-11-25T00:00:00.069000+00:00", "expires_at": "2033-05-18T03:33:19+00:00"}"#
    );
    assert_eq!(
        Revocation::unrevoke(token("j")).to_event_json(NOW, None),
        r#"{"type": "remove", "jti": "j", "timestamp": "2025-11-25T00:00:00.069000"}"#
    );
}

#[test]
fn a_cut_off_and_a_receipt_are_written() {
    let target = Target::subject(Some("i"), "u").unwrap();
    let cutoff = Revocation::revoke(target.clone(), Timestamp::from_secs(1_999_999_999));
    assert_eq!(
        cutoff.to_event_json(NOW, Some("r")),
        r#"{"type": "cutoff", "sub": "u", "iss": "i", "issued_before": "2033-05-18T03:33:19+00:00", "timestamp": "2025-11-25T00:00:00.069000", "receipt": "r"}"#
    );
    assert!(!cutoff.to_stored_json(NOW).contains("receipt"), "it is of no use to a snapshot");
    let lifted = Revocation::unrevoke(target).to_event_json(NOW, None);
    assert!(lifted.starts_with(r#"{"type": "lift", "sub": "u", "iss": "i", "#), "{lifted}");
}

#[test]
fn a_revocation_lives_as_long_as_a_token_can_be_accepted() {
    const SECS: i64 = 2_000_000_000;
    let now = Timestamp::from_secs(SECS);
    let cases = [
        (SECS, Lifetime::For(MARGIN)),
        (SECS + 60, Lifetime::For(MARGIN + Duration::from_mins(1))),
        (SECS - 10, Lifetime::For(Duration::from_secs(1))),
        (SECS - 11, Lifetime::Over),
        (946_684_800, Lifetime::Over),
        (946_684_799, Lifetime::Permanent),
        (0, Lifetime::Permanent),
        (-1, Lifetime::Permanent),
        (i64::MAX, Lifetime::Permanent),
    ];
    for (expires_at, lifetime) in cases {
        assert_eq!(revoke_until(expires_at).lifetime(now, MARGIN), lifetime, "{expires_at}");
    }
    let forever = Revocation::revoke(token("j"), now);
    assert_eq!(forever.lifetime(now, MARGIN), Lifetime::Permanent);
}

#[test]
fn blank_names_are_no_target() {
    for blank in ["", " ", "\t\n"] {
        assert!(Target::token(blank).is_err());
        assert!(Target::subject(None, blank).is_err());
        assert!(Target::subject(Some(blank), "u").is_err());
        assert!(Target::session(None, blank).is_err());
        assert!(Target::issuer(blank).is_err());
    }
}

#[test]
fn debug_shows_no_name() {
    let revocation = revoke_until(1).user_id(Some("hush".into())).reason(Some("hush".into()));
    let shown = format!("{revocation:?} {:?}", Target::subject(Some("hush"), "hush"));
    assert!(!shown.contains("hush"), "{shown}");
}

/// A cut-off of a subject, and the session that it spares.
fn except(issued_before: i64, session: Option<&str>) -> Revocation {
    let target = Target::subject(None, "u").unwrap();
    let cutoff = Revocation::revoke(target, Timestamp::from_secs(issued_before));
    cutoff.except_session(session).unwrap()
}

#[test]
fn an_excepted_session_is_written_and_joined() {
    let cutoff = except(1_999_999_999, Some("s"));
    assert_eq!(
        cutoff.to_event_json(NOW, None),
        r#"{"type": "cutoff", "sub": "u", "issued_before": "2033-05-18T03:33:19+00:00", "except_sid": "s", "timestamp": "2025-11-25T00:00:00.069000"}"#
    );
    let earlier = except(1_999_999_990, None);
    let both = [
        cutoff.clone().join(earlier.to_stored_json(NOW).as_bytes()),
        earlier.join(cutoff.to_stored_json(NOW).as_bytes()),
    ];
    for joined in both {
        let stored = joined.to_stored_json(NOW);
        let expected = r#""issued_before": "2033-05-18T03:33:19+00:00", "except_sid": "s", "except_issued_before": "2033-05-18T03:33:10+00:00", "#;
        assert!(stored.contains(expected), "{stored}");
        assert_eq!(cutoff.clone().join(stored.as_bytes()), joined, "as it is");
        let later = except(2_000_000_000, None).join(stored.as_bytes());
        assert_eq!(later, except(2_000_000_000, None));
    }
}

#[test]
fn only_a_cut_off_of_a_subject_spares_a_session() {
    let others = [token("j"), Target::session(None, "t").unwrap(), Target::issuer("i").unwrap()];
    for target in others {
        let cutoff = Revocation::revoke(target, NOW);
        assert_eq!(cutoff.clone().except_session(Some("s")), Ok(cutoff));
    }
    let target = Target::subject(None, "u").unwrap();
    assert!(Revocation::revoke(target, NOW).except_session(Some(" ")).is_err());
}

#[test]
fn a_cut_off_joined_with_another_target_or_garbage_is_unchanged() {
    let cutoff = Revocation::revoke(Target::issuer("i").unwrap(), NOW);
    let other = Revocation::revoke(Target::issuer("j").unwrap(), NOW.plus(MARGIN));
    for stored in [other.to_stored_json(NOW), "garbage".to_owned(), "{}".to_owned()] {
        assert_eq!(cutoff.clone().join(stored.as_bytes()), cutoff, "{stored}");
    }
}

proptest! {
    #[test]
    fn a_written_event_is_read_back_as_it_was_meant(
        revocation in revocations(),
        receipt in prop::option::of("\\PC*"),
    ) {
        let message = revocation.to_event_json(NOW, receipt.as_deref());
        prop_assert_eq!(Event::parse(message.as_bytes()), Ok(revocation.event));
        prop_assert_eq!(Revocation::parse(message.as_bytes()), Ok(revocation));
    }

    #[test]
    fn a_stored_cut_off_is_read_back(
        subject in "[a-z]{1,8}",
        issued_before in times(),
        expires_at in prop::option::of(times()),
    ) {
        let target = Target::subject(None, &subject).unwrap();
        let cutoff = Revocation::revoke(target, issued_before).expires_at(expires_at);
        let stored = cutoff.to_stored_json(NOW);
        prop_assert_eq!(Event::parse(stored.as_bytes()), Ok(cutoff.event));
    }

    #[test]
    fn joined_cut_offs_reach_as_far_and_last_as_long_as_each(
        one in (times(), prop::option::of(times())),
        other in (times(), prop::option::of(times())),
    ) {
        let cutoff = |(issued_before, expires_at)| {
            Revocation::revoke(Target::issuer("i").unwrap(), issued_before).expires_at(expires_at)
        };
        let stored = cutoff(other).to_stored_json(NOW);
        let joined = cutoff(one).join(stored.as_bytes());
        let end = |cutoff: Revocation| cutoff.event.extent().unwrap().issued_before();
        let expires_at = joined.event.expires_at();
        for part in [cutoff(one), cutoff(other)] {
            let until = part.event.expires_at();
            prop_assert!(end(joined.clone()) >= end(part));
            prop_assert!(expires_at.is_none() || until.is_some_and(|until| until <= expires_at.unwrap()));
        }
    }

    #[test]
    fn what_is_stored_covers_what_the_blacklist_covers(
        one in (0..4_i64, prop::option::of("[ab]")),
        other in (0..4_i64, prop::option::of("[ab]")),
        third in (0..4_i64, prop::option::of("[ab]")),
    ) {
        let all = [one, other, third].map(|(secs, session)| except(secs, session.as_deref()));
        let [first, rest @ ..] = &all;
        let mut joined = first.clone();
        let mut extent = first.event.extent().unwrap();
        for next in rest {
            joined = next.clone().join(joined.to_stored_json(NOW).as_bytes());
            extent = extent.join(next.event.extent().unwrap());
        }
        prop_assert_eq!(joined.event.extent(), Some(extent));
        let stored = joined.to_stored_json(NOW);
        prop_assert_eq!(Event::parse(stored.as_bytes()), Ok(joined.event));
    }

    #[test]
    fn no_message_panics(message in "\\PC*") {
        let _ = Revocation::parse(message.as_bytes());
    }
}
