//! What the set answers, checked against a model that is too simple to be wrong.

mod model;

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::event::{Event, Exception};

const MARGIN: Duration = Duration::from_secs(10);

fn id(jti: &str) -> TokenId {
    TokenId::new(jti).unwrap()
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn add(jti: &str, expires_at: Option<i64>) -> Event {
    Event::Add { token_id: id(jti), expires_at: expires_at.map(at) }
}

fn cut_off(cutoff: Cutoff, issued_before: i64, expires_at: Option<i64>) -> Event {
    let (issued_before, expires_at) = (at(issued_before), expires_at.map(at));
    Event::CutOff { cutoff, issued_before, except: None, expires_at }
}

fn has(blacklist: &Blacklist, jti: &str, now: i64) -> bool {
    let token = PresentedToken { token_id: Some(&id(jti)), ..PresentedToken::default() };
    blacklist.is_blacklisted(&token, at(now))
}

/// A token of alice with all claims.
fn alice(issued_at: Option<i64>) -> PresentedToken<'static> {
    PresentedToken {
        token_id: None,
        jti: None,
        issuer: Some("issuer"),
        subject: Some("alice"),
        session_id: Some("session"),
        issued_at: issued_at.map(at),
    }
}

#[test]
fn an_entry_outlives_its_token_by_the_margin() {
    let (mut writer, blacklist) = pair(MARGIN);
    assert_eq!(writer.apply(add("j", Some(100))), Applied::Added);
    assert!(has(&blacklist, "j", 100));
    assert!(has(&blacklist, "j", 109));
    assert!(!has(&blacklist, "j", 110));
    assert_eq!(writer.sweep(at(109)), 0);
    assert_eq!(writer.sweep(at(110)), 1);
    assert_eq!(writer.len(), 0);
}

#[test]
fn what_a_complete_reading_of_the_table_does_not_see_is_swept() {
    let (mut writer, blacklist) = pair(MARGIN);
    let there = |blacklist: &Blacklist| ["gone", "read", "heard"].map(|jti| has(blacklist, jti, 0));
    writer.apply(add("gone", None));
    writer.apply(add("read", None));
    // One reading fails, the next one does not.
    for _ in 0..2 {
        writer.begin_reading();
        writer.apply(add("read", None));
        writer.apply(add("heard", None));
        assert!(writer.take_complete().is_none() && writer.sweep(at(0)) == 0);
    }
    writer.end_reading();
    assert!(writer.take_complete().is_some());
    assert_eq!(there(&blacklist), [true; 3], "until it is swept");
    assert_eq!(writer.sweep(at(0)), 1);
    assert_eq!(there(&blacklist), [false, true, true]);
    assert!(writer.take_complete().is_none());
}

#[test]
fn an_entry_without_expiry_is_permanent() {
    let (mut writer, blacklist) = pair(MARGIN);
    writer.apply(add("j", None));
    assert_eq!(writer.apply(add("j", Some(100))), Applied::Unchanged);
    assert_eq!(writer.sweep(Timestamp::MAX), 0);
    let token = PresentedToken { token_id: Some(&id("j")), ..PresentedToken::default() };
    assert!(blacklist.is_blacklisted(&token, Timestamp::MAX));
}

#[test]
fn a_later_event_extends_and_never_shortens() {
    let (mut writer, blacklist) = pair(MARGIN);
    assert_eq!(writer.apply(add("j", Some(100))), Applied::Added);
    assert_eq!(writer.apply(add("j", Some(50))), Applied::Unchanged);
    assert_eq!(writer.apply(add("j", Some(100))), Applied::Unchanged);
    assert_eq!(writer.apply(add("j", Some(200))), Applied::Extended);
    assert!(has(&blacklist, "j", 209));
    assert_eq!(writer.apply(add("j", None)), Applied::Extended);
    assert_eq!(blacklist.until(&id("j")), Some(Timestamp::MAX));
    assert_eq!(blacklist.len(), 1);
}

#[test]
fn a_held_entry_lasts_until_its_expiry_is_read() {
    let (mut writer, blacklist) = pair(MARGIN);
    let longest = at(500);
    writer.apply(add("known", Some(100)));
    for jti in ["known", "new", "told"] {
        writer.hold(id(jti), longest, at(0));
    }
    assert_eq!(blacklist.until(&id("known")), Some(at(110)), "its expiry is known");
    assert!(!blacklist.lacks_expiry(&id("known"), at(0)));
    assert!(blacklist.lacks_expiry(&id("known"), at(110)), "it may be longer than was said");
    assert_eq!(blacklist.until(&id("new")), Some(longest), "nothing is held for ever");
    assert!(
        blacklist.lacks_expiry(&id("new"), at(0)) && blacklist.lacks_expiry(&id("none"), at(0))
    );
    assert_eq!(writer.apply(add("told", Some(300))), Applied::Unchanged);
    assert!(blacklist.lacks_expiry(&id("told"), at(0)), "the store may know it to be longer");
    writer.set_expiry(add("new", Some(200)));
    assert_eq!(blacklist.until(&id("new")), Some(at(210)));
    writer.set_expiry(add("told", Some(200)));
    assert_eq!(blacklist.until(&id("told")), Some(longest), "the event is not forgotten");
    writer.set_expiry(add("new", None));
    assert_eq!(writer.sweep(at(1_000)), 2);
    assert_eq!(blacklist.until(&id("new")), Some(Timestamp::MAX));
    writer.hold(id("removed"), longest, at(0));
    assert_eq!(writer.apply(Event::Unrevoke { token_id: id("removed") }), Applied::Removed);
}

#[test]
fn a_token_id_from_the_store_is_revoked_although_an_event_had_expired() {
    let (mut writer, blacklist) = pair(MARGIN);
    writer.apply(add("j", Some(100)));
    assert!(!has(&blacklist, "j", 200) && !blacklist.holds(&id("j"), at(200)));
    writer.hold(id("j"), at(500), at(200));
    assert!(has(&blacklist, "j", 499) && blacklist.holds(&id("j"), at(499)));
    writer.set_expiry(add("j", Some(300)));
    assert_eq!(blacklist.until(&id("j")), Some(at(310)));
}

#[test]
fn what_is_extended_while_it_is_swept_stays() {
    let (mut writer, blacklist) = pair(MARGIN);
    for jti in ["a", "b", "c"] {
        writer.apply(add(jti, Some(100)));
    }
    let session = Cutoff::session(None, "session").unwrap();
    writer.apply(cut_off(session, 1, Some(100)));
    let mut expired = blacklist.expired(at(200), 0);
    writer.apply(add("b", Some(300)));
    let mut removed = 0;
    while !expired.is_empty() {
        removed += writer.remove_expired(&mut expired, 1, at(200));
    }
    assert_eq!((removed, blacklist.len(), blacklist.cutoffs()), (3, 1, 0));
    assert!(has(&blacklist, "b", 200));
    assert!(!blacklist.is_blacklisted(&alice(Some(0)), at(0)), "no cut-off is left");
}

#[test]
fn a_set_is_trusted_until_its_lease_lapses() {
    let token = alice(None);
    let second = Duration::from_secs(1);
    let ask = |or_deny| Found::Unknown { or_deny };
    for (lapsed, expired, expected) in [
        (Reliance::AskOrServe, Reliance::AskOrDeny, [ask(false), ask(true)]),
        (Reliance::Final, Reliance::None, [Found::Clear, Found::Unreliable]),
        (Reliance::None, Reliance::None, [Found::Unreliable, Found::Unreliable]),
    ] {
        let terms = LeaseTerms { lapsed, expired, max_staleness: second * 60 };
        let (mut writer, blacklist) = leased_pair(MARGIN, terms);
        assert_eq!(blacklist.find(&token, at(0)), Found::Unreliable);
        writer.set_reliance(Reliance::Final);
        let now = BootInstant::now();
        writer.renew(now.plus(second * 60));
        assert_eq!(blacklist.find(&token, at(0)), Found::Clear);
        writer.renew(now);
        assert_eq!(blacklist.find(&token, at(0)), expected[0]);
        writer.renew(BootInstant::START);
        let long_ago = now.as_millis() > 60_000;
        assert_eq!(blacklist.find(&token, at(0)), expected[usize::from(long_ago)]);
        // A lease makes no set better than it is.
        writer.renew(now.plus(second * 60));
        writer.set_reliance(Reliance::AskOrDeny);
        assert_eq!(blacklist.find(&token, at(0)), ask(true));
    }
}

#[test]
fn a_set_that_becomes_complete_after_a_search_was_not_complete_at_the_search() {
    let terms = LeaseTerms {
        lapsed: Reliance::AskOrServe,
        expired: Reliance::AskOrDeny,
        max_staleness: Duration::MAX,
    };
    let (mut writer, blacklist) = leased_pair(MARGIN, terms);
    let later = BootInstant::now().plus(Duration::from_mins(1));
    let asked = Found::Unknown { or_deny: false };
    // Stale at first; and live, with a lease that had lapsed.
    for reliance in [Reliance::AskOrServe, Reliance::Final] {
        writer.set_reliance(reliance);
        writer.renew(BootInstant::now());
        let found = blacklist.shared.find(|| {
            writer.set_reliance(Reliance::Final);
            writer.renew(later);
            false
        });
        assert_eq!(found, asked, "{reliance:?}");
    }
    // The lease lapses during the search.
    let found = blacklist.shared.find(|| {
        writer.renew(BootInstant::now());
        false
    });
    assert_eq!(found, asked);
}

#[test]
fn what_is_revoked_is_denied_without_a_lease_too() {
    let terms = LeaseTerms {
        lapsed: Reliance::AskOrServe,
        expired: Reliance::AskOrDeny,
        max_staleness: Duration::ZERO,
    };
    let (mut writer, blacklist) = leased_pair(MARGIN, terms);
    writer.apply(add("j", None));
    writer.set_reliance(Reliance::Final);
    let id = id("j");
    let token = PresentedToken { token_id: Some(&id), ..PresentedToken::default() };
    assert_eq!(blacklist.find(&token, at(0)), Found::Revoked);
}

#[test]
fn an_unrevocation_removes_and_tolerates_absence() {
    let (mut writer, blacklist) = pair(MARGIN);
    writer.apply(add("j", None));
    assert_eq!(writer.apply(Event::Unrevoke { token_id: id("j") }), Applied::Removed);
    assert_eq!(writer.apply(Event::Unrevoke { token_id: id("j") }), Applied::Absent);
    assert!(!has(&blacklist, "j", 0));
    assert!(blacklist.is_empty());
}

#[test]
fn a_token_that_was_never_seen_can_be_revoked_beforehand() {
    let (mut writer, blacklist) = pair(MARGIN);
    writer.apply(add("not yet issued", Some(100)));
    assert!(has(&blacklist, "not yet issued", 1));
    assert!(!has(&blacklist, "another", 1));
}

#[test]
fn a_cut_off_covers_what_was_issued_in_its_very_second() {
    let all = [
        Cutoff::subject(None, "alice"),
        Cutoff::subject(Some("issuer"), "alice"),
        Cutoff::session(None, "session"),
        Cutoff::session(Some("issuer"), "session"),
        Cutoff::issuer("issuer"),
    ];
    for cutoff in all.map(Result::unwrap) {
        let (mut writer, blacklist) = pair(MARGIN);
        assert_eq!(writer.apply(cut_off(cutoff, 50, Some(100))), Applied::Added);
        let is_blacklisted =
            |token: &PresentedToken<'_>, now| blacklist.is_blacklisted(token, at(now));
        assert!(is_blacklisted(&alice(Some(49)), 60), "{cutoff:?}");
        assert!(is_blacklisted(&alice(Some(50)), 60), "{cutoff:?}");
        assert!(!is_blacklisted(&alice(Some(51)), 60), "{cutoff:?}");
        assert!(is_blacklisted(&alice(None), 60), "{cutoff:?}: no iat is old");
        assert!(is_blacklisted(&alice(Some(49)), 109), "{cutoff:?}: the margin");
        assert!(!is_blacklisted(&alice(Some(49)), 110), "{cutoff:?}");
        assert!(
            !is_blacklisted(&PresentedToken::default(), 60),
            "{cutoff:?}: a token without claims"
        );
        assert_eq!(blacklist.cutoffs(), 1);
        assert_eq!(writer.apply(Event::LiftCutoff { cutoff }), Applied::Removed);
        assert_eq!(writer.apply(Event::LiftCutoff { cutoff }), Applied::Absent);
        assert!(!is_blacklisted(&alice(Some(49)), 60), "{cutoff:?}: lifted");
        assert_eq!(blacklist.shared.cutoff_kinds.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_cut_off_at_one_issuer_spares_the_namesake_at_another() {
    let (mut writer, blacklist) = pair(MARGIN);
    writer.apply(cut_off(Cutoff::subject(Some("issuer"), "alice").unwrap(), 50, None));
    let elsewhere = PresentedToken { issuer: Some("other"), ..alice(Some(1)) };
    assert!(!blacklist.is_blacklisted(&elsewhere, at(60)));
    assert!(blacklist.is_blacklisted(&alice(Some(1)), at(60)));
}

#[test]
fn cut_offs_join_to_the_farther_reach() {
    let (mut writer, blacklist) = pair(MARGIN);
    let cutoff = Cutoff::issuer("issuer").unwrap();
    writer.apply(cut_off(cutoff, 50, Some(300)));
    assert_eq!(writer.apply(cut_off(cutoff, 40, Some(200))), Applied::Unchanged);
    assert_eq!(writer.apply(cut_off(cutoff, 60, Some(200))), Applied::Extended);
    assert!(blacklist.is_blacklisted(&alice(Some(60)), at(309)));
    assert_eq!(blacklist.cutoffs(), 1);
}

#[test]
fn an_excepted_session_is_spared_except_by_an_earlier_cut_off() {
    let (mut writer, blacklist) = pair(MARGIN);
    let cutoff = Cutoff::subject(None, "alice").unwrap();
    let except = |issued_before| Event::CutOff {
        cutoff,
        issued_before: at(issued_before),
        except: Exception::new("session", None).ok(),
        expires_at: None,
    };
    let is_cut_off = |issued_at| blacklist.is_blacklisted(&alice(issued_at), at(60));
    writer.apply(except(50));
    assert!(!is_cut_off(Some(50)) && !is_cut_off(Some(1)) && !is_cut_off(None));
    let elsewhere = PresentedToken { session_id: Some("other"), ..alice(Some(50)) };
    assert!(blacklist.is_blacklisted(&elsewhere, at(60)));
    assert_eq!(writer.apply(except(50)), Applied::Unchanged);
    // Late, as from a snapshot: it covers what it always did.
    assert_eq!(writer.apply(cut_off(cutoff, 40, None)), Applied::Extended);
    assert!(is_cut_off(Some(40)) && is_cut_off(None));
    assert!(!is_cut_off(Some(41)));
    assert_eq!(writer.apply(cut_off(cutoff, 50, None)), Applied::Extended);
    assert!(is_cut_off(Some(50)));
}

#[test]
fn sweeping_one_kind_of_cut_off_keeps_the_others_in_sight() {
    let (mut writer, blacklist) = pair(MARGIN);
    writer.apply(cut_off(Cutoff::issuer("gone").unwrap(), 50, Some(60)));
    writer.apply(cut_off(Cutoff::subject(None, "alice").unwrap(), 50, None));
    assert_eq!(writer.sweep(at(70)), 1);
    assert!(blacklist.is_blacklisted(&alice(Some(1)), at(70)));
}

#[test]
fn a_set_is_expired_at_first_and_when_its_writer_is_dropped() {
    let (mut writer, blacklist) = pair(MARGIN);
    assert!(blacklist.is_expired());
    writer.set_reliance(Reliance::Final);
    assert!(!blacklist.is_expired());
    drop(writer);
    assert!(blacklist.is_expired());

    let (mut writer, blacklist) = pair(MARGIN);
    writer.set_reliance(Reliance::Final);
    writer.retire();
    assert!(!blacklist.is_expired());
}

#[test]
fn debug_shows_sizes_only() {
    let (mut writer, blacklist) = pair(MARGIN);
    writer.apply(add("hush", None));
    let shown = format!("{writer:?} {blacklist:?} {:?}", alice(None));
    assert!(!shown.contains("hush") && !shown.contains("alice"), "{shown}");
}

#[test]
fn readers_never_miss_a_finished_write_while_the_table_grows() {
    const ENTRIES: usize = 20_000;
    let ids: Vec<TokenId> = (0..ENTRIES).map(|n| id(&n.to_string())).collect();
    let (mut writer, blacklist) = pair(MARGIN);
    let finished = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (blacklist, finished, ids) = (blacklist.clone(), &finished, &ids);
            scope.spawn(move || {
                let mut n = seed;
                loop {
                    let done = finished.load(Ordering::Acquire);
                    for _ in 0..done.min(64) {
                        n = (n + 7_919) % done;
                        let token =
                            PresentedToken { token_id: ids.get(n), ..PresentedToken::default() };
                        assert!(blacklist.is_blacklisted(&token, at(5)), "entry {n} of {done}");
                    }
                    if done == ENTRIES {
                        break;
                    }
                }
            });
        }
        for (n, token_id) in ids.iter().enumerate() {
            writer.apply(Event::Add { token_id: *token_id, expires_at: Some(at(100)) });
            finished.store(n + 1, Ordering::Release);
            if n % 5_000 == 0 {
                assert_eq!(writer.sweep(at(5)), 0);
            }
        }
    });
    assert_eq!(writer.sweep(at(1_000)), ENTRIES);
}

#[test]
fn what_a_miss_means_is_for_the_feed_to_say() {
    let (mut writer, blacklist) = pair(MARGIN);
    writer.apply(add("j", None));
    let (known, unknown) = (id("j"), id("k"));
    let find = |token_id| {
        blacklist
            .find(&PresentedToken { token_id: Some(token_id), ..PresentedToken::default() }, at(0))
    };
    assert_eq!(find(&known), Found::Unreliable);
    for (reliance, miss) in [
        (Reliance::Final, Found::Clear),
        (Reliance::AskOrServe, Found::Unknown { or_deny: false }),
        (Reliance::AskOrDeny, Found::Unknown { or_deny: true }),
        (Reliance::None, Found::Unreliable),
    ] {
        writer.set_reliance(reliance);
        assert_eq!(find(&unknown), miss);
        let hit = if reliance == Reliance::None { Found::Unreliable } else { Found::Revoked };
        assert_eq!(find(&known), hit);
    }
}
