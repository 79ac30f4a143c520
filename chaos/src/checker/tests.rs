//! Tests of the checker: it passes clean histories, and finds every planted violation.

mod expiry;
mod properties;
mod stalls;

use super::*;
use crate::{
    fault::FaultKind,
    history::{Fault, HealthSample, Reason, Revocation, Target, Token, Unrevocation, Way},
    setup::{Mode, Setup, WhileStale},
};

/// Late is missed here, except in the tests that distinguish the two.
const RULES: Rules = Rules {
    bound: Duration::from_millis(25),
    limit: Duration::from_millis(25),
    relay: Duration::from_millis(500),
};
const DENIED: Verdict = Verdict::Deny(Reason::Revoked);
const REPLICAS: usize = 3;

fn ms(millis: u64) -> Moment {
    Moment::after(Duration::from_millis(millis))
}

fn span(began: u64, ended: u64) -> Span {
    Span::new(ms(began), ms(ended))
}

fn check(token: usize, replica: usize, began: u64, verdict: Verdict) -> Check {
    Check { token, replica, verdict, span: span(began, began + 1) }
}

fn revoked(token: usize, way: Way, acknowledged: u64) -> Revocation {
    Revocation {
        target: Target::Token(token),
        way,
        began: ms(acknowledged.saturating_sub(1)),
        acknowledged: Some(ms(acknowledged)),
    }
}

fn fault(kind: FaultKind, replica: Option<usize>, began: u64, ended: u64) -> Fault {
    Fault { kind, replica, span: span(began, ended), healed: ms(ended) }
}

/// Ten tokens of ten subjects, and replicas that are ready all the time.
fn quiet() -> History {
    let token = |number| Token { subject: number, session: number, issued_at: 100, expires: None };
    let sample =
        |at| move |replica| HealthSample { replica, health: Health::Ready, span: span(at, at) };
    let health = [0, 100_000].map(|at| (0..REPLICAS).map(sample(at)));
    History {
        tokens: (0..10).map(token).collect(),
        health: health.into_iter().flatten().collect(),
        ..History::default()
    }
}

fn count(history: &History) -> usize {
    judge(0, history, &RULES).violations.len()
}

#[test]
fn an_allow_counts_from_acknowledgement_plus_bound() {
    let allowed = |began| {
        let mut history = quiet();
        history.revocations = vec![revoked(1, Way::Exchange, 1000)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        count(&history)
    };
    assert_eq!(allowed(999), 0, "before the acknowledgement");
    assert_eq!(allowed(1025), 0, "within the bound");
    assert_eq!(allowed(1026), 1, "late");
    assert_eq!(allowed(90_000), 1, "missed");
}

#[test]
fn an_unacknowledged_revocation_promises_nothing() {
    let mut history = quiet();
    history.revocations =
        vec![Revocation { acknowledged: None, ..revoked(1, Way::Exchange, 1000) }];
    history.checks = vec![check(1, 0, 2000, Verdict::Allow), check(1, 0, 2001, DENIED)];
    assert_eq!(count(&history), 0);
    history.checks.push(check(1, 0, 500, DENIED));
    assert_eq!(count(&history), 1, "the revocation had not begun");
}

#[test]
fn silence_excuses_only_until_it_must_be_detected() {
    let allowed = |kind, replica, acknowledged, began| {
        let mut history = quiet();
        history.faults = vec![fault(kind, replica, 1000, 9000)];
        history.revocations = vec![revoked(1, Way::Exchange, acknowledged)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        count(&history)
    };
    let frozen = FaultKind::LinkFrozen;
    assert_eq!(allowed(frozen, Some(0), 1500, 3025), 0);
    assert_eq!(allowed(frozen, Some(0), 1500, 3026), 1, "it must have been detected at 3000");
    assert_eq!(allowed(frozen, Some(0), 4000, 4026), 1, "from then on there is no excuse");
    assert_eq!(allowed(frozen, Some(1), 1500, 1526), 1, "this replica was not affected");
    assert_eq!(allowed(FaultKind::BrokerKilled, None, 1500, 1526), 1, "a closed connection shows");
    assert_eq!(allowed(FaultKind::Flood, None, 5000, 7025), 0);
    assert_eq!(allowed(FaultKind::Flood, None, 5000, 7026), 1);
}

#[test]
fn a_store_fault_excuses_the_outbox_and_never_a_receipt() {
    let allowed = |kind, way, began| {
        let mut history = quiet();
        history.faults = vec![fault(kind, None, 1000, 2000)];
        history.revocations = vec![revoked(1, way, 900)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        count(&history)
    };
    // 100 ms before Redis was killed, and 425 ms after it was back.
    assert_eq!(allowed(FaultKind::RedisKilled, Way::Outbox, 2425), 0);
    assert_eq!(allowed(FaultKind::RedisKilled, Way::Outbox, 2426), 1);
    assert_eq!(allowed(FaultKind::RedisKilled, Way::Exchange, 926), 1);
    // Without a relay, replicas read the outbox themselves.
    assert_eq!(allowed(FaultKind::RelayKilled, Way::Outbox, 1425), 0);
    assert_eq!(allowed(FaultKind::RelayKilled, Way::Outbox, 1426), 1);
    assert_eq!(allowed(FaultKind::BrokerPaused, Way::Receipt, 926), 1);
}

#[test]
fn an_emptied_store_excuses_only_what_it_alone_had() {
    let allowed = |way, acknowledged| {
        let mut history = quiet();
        history.faults = vec![fault(FaultKind::RedisFlushed, None, 1000, 1100)];
        history.revocations = vec![revoked(1, way, acknowledged)];
        history.checks = vec![check(1, 0, 50_000, Verdict::Allow)];
        count(&history)
    };
    assert_eq!(allowed(Way::Outbox, 900), 0);
    assert_eq!(allowed(Way::Outbox, 400), 1, "it was published before");
    assert_eq!(allowed(Way::Outbox, 1200), 1, "it was stored after");
    assert_eq!([allowed(Way::Exchange, 900), allowed(Way::Receipt, 900)], [1, 1]);
}

#[test]
fn stalls_of_the_machine_are_subtracted_once() {
    let mut history = quiet();
    history.stalls = vec![span(1000, 1100), span(1050, 1100), span(1200, 1250)];
    history.revocations = vec![revoked(1, Way::Exchange, 1000)];
    history.checks = vec![check(1, 0, 1125, Verdict::Allow)];
    assert_eq!(count(&history), 0);
    history.checks = vec![check(1, 0, 1126, Verdict::Allow)];
    assert_eq!(count(&history), 1);
}

#[test]
fn a_cut_off_covers_tokens_issued_up_to_its_time() {
    let mut history = quiet();
    history.tokens = [99, 100, 101]
        .map(|issued_at| Token { subject: 7, session: 8, issued_at, expires: None })
        .to_vec();
    for target in [
        Target::Subject { subject: 7, issued_before: 100 },
        Target::Session { session: 8, issued_before: 100 },
    ] {
        history.revocations = vec![Revocation { target, ..revoked(0, Way::Exchange, 1000) }];
        history.checks = (0..3).map(|token| check(token, 0, 2000, Verdict::Allow)).collect();
        assert_eq!(count(&history), 2, "the third one is younger");
        history.checks = (0..3).map(|token| check(token, 0, 2000, DENIED)).collect();
        assert_eq!(count(&history), 1, "and must be allowed");
    }
}

#[test]
fn late_is_counted_and_beyond_the_stretched_limit_is_missed() {
    let rules = Rules { limit: Duration::from_millis(100), ..RULES };
    let judged = |began, load| {
        let mut history = quiet();
        history.revocations = vec![revoked(1, Way::Exchange, 1000)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        history.load.push(ms(1000), load);
        let findings = judge(0, &history, &rules);
        let late = findings.late.get(&None).copied().unwrap_or_default();
        (findings.missed.len(), late.count, late.longest.as_millis())
    };
    assert_eq!(judged(1025, 500), (0, 0, 0));
    assert_eq!(judged(1060, 500), (0, 1, 35));
    assert_eq!(judged(1101, 500), (1, 0, 0));
    assert_eq!(judged(1300, 3000), (0, 1, 275), "three threads per processor");
    assert_eq!(judged(1301, 3000), (1, 0, 0));
}

/// The violations of a check between two samples of the health of its replica.
fn judged(health: [Health; 2], token: usize, verdict: Verdict, faults: &[Fault]) -> Vec<Wrong> {
    let sample = |at, health| HealthSample { replica: 0, health, span: span(at, at + 1) };
    let mut history = quiet();
    history.health = vec![sample(700, health[0]), sample(1300, health[1])];
    history.revocations = vec![revoked(1, Way::Exchange, 0)];
    history.faults = faults.to_vec();
    history.checks = vec![check(token, 0, 1000, verdict)];
    judge(0, &history, &RULES).violations.into_iter().map(|violation| violation.wrong).collect()
}

#[test]
fn a_replica_that_is_not_ready_must_allow_nothing() {
    let missed = Wrong::Allowed(revoked(1, Way::Exchange, 0));
    let unready = [Health::NotReady; 2];
    assert_eq!(judged([Health::Ready; 2], 1, Verdict::Allow, &[]), [missed]);
    assert_eq!(judged(unready, 1, Verdict::Allow, &[]), [Wrong::Unready]);
    assert_eq!(judged(unready, 2, Verdict::Allow, &[]), [Wrong::Unready], "also not a good token");
    assert_eq!(judged([Health::NotReady, Health::Ready], 2, Verdict::Allow, &[]), []);
    // A replica that does not answer may have been stopped.
    assert_eq!(judged([Health::NoAnswer; 2], 1, Verdict::Allow, &[]), [missed]);
    assert_eq!(judged([Health::NoAnswer; 2], 2, Verdict::Allow, &[]), []);
}

#[test]
fn a_denial_needs_a_right_reason_and_a_fault_that_explains_it() {
    let (ready, unready) = ([Health::Ready; 2], [Health::NotReady; 2]);
    let reason = |health, token, reason, faults: &[Fault]| {
        judged(health, token, Verdict::Deny(reason), faults)
    };
    let died = [fault(FaultKind::ReplicaKilled, Some(0), 500, 1500)];
    let isolated = |began| [fault(FaultKind::Isolated, Some(0), began, 1500)];
    for (token, wrong) in [(1, Wrong::Reason), (2, Wrong::Refused)] {
        assert_eq!(reason(ready, token, Reason::Other, &died), [wrong]);
        assert_eq!(reason(ready, token, Reason::NotReady, &died), [wrong], "it is ready");
        assert_eq!(reason(unready, token, Reason::NotReady, &[]), [wrong], "without a cause");
        assert_eq!(reason(unready, token, Reason::NotReady, &died), []);
        assert_eq!(reason(ready, token, Reason::StoreUnavailable, &[]), [wrong]);
        let soon = isolated(500);
        assert_eq!(reason(ready, token, Reason::StoreUnavailable, &soon), [wrong], "too early");
        assert_eq!(reason(ready, token, Reason::InvalidToken, &[]), [wrong]);
        let jump = [fault(FaultKind::ClockJump, Some(0), 500, 1500)];
        assert_eq!(reason(ready, token, Reason::InvalidToken, &jump), []);
    }
    assert_eq!(reason(unready, 2, Reason::Revoked, &died), [Wrong::Refused], "it never was");
    // It is not ready for longer than a start may take.
    let healed = Fault { healed: ms(0), ..fault(FaultKind::ReplicaKilled, Some(0), 0, 90_000) };
    let mut history = quiet();
    let health = Health::NotReady;
    let sample = |at| HealthSample { replica: 0, health, span: span(at, at + 1) };
    history.health = vec![sample(0), sample(60_000)];
    history.faults = vec![healed];
    let refused = Verdict::Deny(Reason::NotReady);
    history.checks = vec![check(2, 0, 14_000, refused), check(2, 0, 16_000, refused)];
    let findings = judge(0, &history, &RULES);
    assert_eq!((findings.excused, findings.violations.len()), (1, 1));
}

#[test]
fn an_unrevocation_counts_once_verified_until_the_next_revocation() {
    let removed = |began, way| Unrevocation {
        token: 1,
        way,
        began: ms(began),
        acknowledged: Some(ms(began + 10)),
    };
    let judged = |checks: Vec<Check>, faults: Vec<Fault>| {
        let mut history = quiet();
        history.revocations =
            vec![revoked(1, Way::Exchange, 1000), revoked(1, Way::Exchange, 9000)];
        history.unrevocations = vec![removed(2000, Way::Exchange)];
        history.faults = faults;
        history.checks = checks;
        let findings = judge(0, &history, &RULES);
        findings.violations.into_iter().map(|violation| violation.wrong).collect::<Vec<_>>()
    };
    let still = Wrong::StillRevoked(removed(2000, Way::Exchange));
    let at = |began, verdict| vec![check(1, 0, began, verdict)];
    assert_eq!(judged(at(1500, Verdict::Allow), vec![]).len(), 1, "still revoked");
    assert_eq!(judged(at(2001, Verdict::Allow), vec![]), [], "the un-revocation has begun");
    assert_eq!(judged(at(3050, DENIED), vec![]), [], "the store is queried after a second");
    assert_eq!(judged(at(3056, DENIED), vec![]), [still]);
    assert_eq!(judged(at(8000, Verdict::Allow), vec![]), []);
    assert_eq!(judged(at(8999, DENIED), vec![]), [], "it is being revoked again");
    assert_eq!(judged(at(9050, Verdict::Allow), vec![]).len(), 1, "revoked again, and allowed");
    let lost = |kind| vec![fault(kind, None, 2500, 3000)];
    assert_eq!(judged(at(5000, DENIED), lost(FaultKind::StreamDeleted)), [], "it may be lost");
    assert_eq!(judged(at(5000, DENIED), lost(FaultKind::SentinelFailover)), []);
    assert_eq!(
        judged(at(4045, DENIED), lost(FaultKind::BrokerAlarm)),
        [],
        "it may be delivered twice"
    );
    assert_eq!(judged(at(4046, DENIED), lost(FaultKind::BrokerAlarm)), [still]);
}

#[test]
fn only_a_revocation_after_an_unrevocation_is_lost_with_its_key() {
    let judged = |way, kind, began, unrevocations: Vec<Unrevocation>| {
        let mut history = quiet();
        history.revocations = vec![revoked(1, Way::Exchange, 1000), revoked(1, way, 9000)];
        history.unrevocations = unrevocations;
        history.faults = vec![fault(kind, None, began, began + 500)];
        history.checks = vec![check(1, 0, 60_000, Verdict::Allow)];
        let findings = judge(0, &history, &RULES);
        (findings.lost_again.len(), findings.missed.len())
    };
    let unrevocation = Unrevocation {
        token: 1,
        way: Way::Exchange,
        began: ms(2000),
        acknowledged: Some(ms(2010)),
    };
    let failover = FaultKind::SentinelFailover;
    assert_eq!(judged(Way::Exchange, failover, 9500, vec![unrevocation]), (1, 0));
    assert_eq!(judged(Way::Exchange, failover, 9500, vec![]), (0, 1), "it was never unrevoked");
    assert_eq!(judged(Way::Exchange, failover, 12_000, vec![unrevocation]), (0, 1), "replicated");
    assert_eq!(judged(Way::Receipt, failover, 9500, vec![unrevocation]), (0, 1), "waited for");
    assert_eq!(judged(Way::Exchange, FaultKind::LinkCut, 9500, vec![unrevocation]), (0, 1));
    let flushed = FaultKind::RedisFlushed;
    assert_eq!(judged(Way::Receipt, flushed, 9500, vec![unrevocation]), (1, 0), "with all keys");
    assert_eq!(judged(Way::Receipt, flushed, 12_000, vec![unrevocation]), (0, 1), "confirmed");
    let in_outbox = Unrevocation {
        way: Way::Outbox,
        began: ms(8000),
        acknowledged: Some(ms(8500)),
        ..unrevocation
    };
    assert_eq!(judged(Way::Receipt, flushed, 17_000, vec![in_outbox]), (1, 0), "it is late");
    assert_eq!(judged(Way::Receipt, flushed, 19_000, vec![in_outbox]), (0, 1));
}

#[test]
fn an_unacknowledged_step_leaves_a_token_undecided() {
    let mut history = quiet();
    history.revocations = vec![revoked(1, Way::Exchange, 1000)];
    history.unrevocations =
        vec![Unrevocation { token: 1, way: Way::Exchange, began: ms(2000), acknowledged: None }];
    history.checks = vec![check(1, 0, 60_000, DENIED), check(1, 0, 60_000, Verdict::Allow)];
    assert_eq!(count(&history), 0);
}

#[test]
fn a_short_stop_excuses_while_it_lasts_and_a_long_one_does_not() {
    let allowed = |way, ended, began| {
        let mut history = quiet();
        history.faults = vec![Fault {
            healed: ms(ended),
            ..fault(FaultKind::ReplicaStopped, Some(0), 1000, ended + 3000)
        }];
        history.revocations = vec![revoked(1, way, 1100)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        count(&history)
    };
    assert_eq!(allowed(Way::Exchange, 2000, 2025), 0);
    assert_eq!(allowed(Way::Exchange, 2000, 2026), 1);
    assert_eq!(allowed(Way::Receipt, 2000, 1200), 1, "its receipt was waited for");
    assert_eq!(allowed(Way::Exchange, 5000, 1200), 1, "its lease has lapsed");
}

#[test]
fn two_faults_excuse_more_than_each_until_the_set_expires() {
    let allowed = |kinds: [FaultKind; 2], way, began| {
        let mut history = quiet();
        history.setup.max_staleness = Duration::from_secs(3);
        history.faults = kinds.map(|kind| fault(kind, None, 1000, 20_000)).to_vec();
        history.revocations = vec![revoked(1, way, 2000)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        count(&history)
    };
    let cut = [FaultKind::LinkCut, FaultKind::StoreLinkCut];
    // Two seconds until detection, three until the set expires.
    assert_eq!(allowed(cut, Way::Exchange, 6025), 0);
    assert_eq!(allowed(cut, Way::Exchange, 6026), 1);
    let alone = [FaultKind::LinkCut, FaultKind::RelayKilled];
    assert_eq!(allowed(alone, Way::Exchange, 2026), 1);
    let outbox = [FaultKind::RelayKilled, FaultKind::StoreLinkCut];
    assert_eq!(allowed(outbox, Way::Outbox, 15_000), 0, "no replica can read it");
    assert_eq!(allowed(outbox, Way::Exchange, 2026), 1);
}

#[test]
fn the_next_snapshot_finds_an_event_that_was_not_stored() {
    let allowed = |kind, way, began| {
        let mut history = quiet();
        history.setup.resnapshot = Duration::from_secs(2);
        history.faults = vec![fault(kind, None, 900, 9000)];
        history.revocations = vec![revoked(1, way, 1000)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        count(&history)
    };
    assert_eq!(allowed(FaultKind::Unbound, Way::Exchange, 4025), 0);
    assert_eq!(allowed(FaultKind::Unbound, Way::Exchange, 4026), 1);
    assert_eq!(allowed(FaultKind::RelayKilled, Way::Store, 4025), 0);
    assert_eq!(allowed(FaultKind::RelayKilled, Way::Store, 4026), 1);
}

#[test]
fn promises_depend_on_the_set_up() {
    let allowed = |setup, kind, began| {
        let mut history = quiet();
        history.setup = setup;
        history.faults = vec![fault(kind, None, 900, 60_000)];
        history.revocations = vec![revoked(1, Way::Exchange, 1000)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        count(&history)
    };
    let on_miss = Setup { mode: Mode::RedisOnMiss, ..Setup::default() };
    assert_eq!(allowed(on_miss, FaultKind::LinkFrozen, 1026), 1, "the store is always queried");
    assert_eq!(allowed(Setup::default(), FaultKind::LinkFrozen, 1026), 0);
    let max_staleness = Duration::from_secs(10);
    let serve = Setup { while_stale: WhileStale::Serve, max_staleness, ..Setup::default() };
    assert_eq!(allowed(serve, FaultKind::LinkCut, 12_925), 0, "only the set is used");
    assert_eq!(allowed(serve, FaultKind::LinkCut, 12_926), 1, "until it has expired");
    assert_eq!(allowed(Setup::default(), FaultKind::LinkCut, 1026), 1);
}

#[test]
fn failed_checks_count_by_fault_except_at_a_dead_replica() {
    let mut history = quiet();
    history.faults = vec![
        fault(FaultKind::BrokerKilled, None, 1000, 2000),
        fault(FaultKind::ReplicaKilled, Some(1), 3000, 4000),
    ];
    history.deaths = vec![(1, span(3000, 4000))];
    history.checks = vec![
        check(2, 0, 500, Verdict::Deny(Reason::StoreUnavailable)),
        check(2, 0, 1500, Verdict::Failed),
        check(2, 1, 3500, Verdict::Failed),
    ];
    let findings = judge(0, &history, &RULES);
    assert_eq!(findings.failed, [(None, 1), (Some(FaultKind::BrokerKilled), 1)].into());
    assert_eq!((findings.violations.len(), findings.excused), (2, 1));
}

#[test]
fn a_violation_names_revocation_check_times_fault_and_seed() {
    let mut history = quiet();
    history.faults = vec![fault(FaultKind::LinkCut, Some(2), 1000, 9000)];
    history.revocations = vec![revoked(4, Way::Exchange, 2000)];
    history.checks = vec![check(4, 2, 2500, Verdict::Allow)];
    let findings = judge(4711, &history, &RULES);
    let text = findings.violations[0].to_string();
    for part in [
        "REVOKED TOKEN WAS ALLOWED (seed 4711)",
        "token 4, by way of Exchange, begun at 1999.000 ms, acknowledged at 2000.000 ms, 500.000 ms before",
        "token 4 at replica 2, begun at 2500.000 ms, answered at 2501.000 ms: allowed",
        "link-cut at replica 2, from 1000.000 ms to 9000.000 ms",
        "--seed 4711",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
