//! Owns the proof that the judge can be believed: it passes clean histories, and finds every
//! violation that is planted in one.

use proptest::prelude::*;

use super::*;
use crate::{
    fault::FaultKind,
    history::{Fault, Look, Target, Token},
};

const RULES: Rules = Rules { bound: Duration::from_millis(25), relay: Duration::from_millis(500) };
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
    Fault { kind, replica, span: span(began, ended) }
}

/// Ten tokens of ten subjects, and replicas that are ready from the beginning to the end.
fn quiet() -> History {
    let token = |number| Token { subject: number, session: number, issued_at: 100 };
    let look = |at| move |replica| Look { replica, ready: true, span: span(at, at) };
    let looks = [0, 100_000].map(|at| (0..REPLICAS).map(look(at)));
    History {
        tokens: (0..10).map(token).collect(),
        looks: looks.into_iter().flatten().collect(),
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
fn what_was_never_acknowledged_promises_nothing() {
    let mut history = quiet();
    history.revocations =
        vec![Revocation { acknowledged: None, ..revoked(1, Way::Exchange, 1000) }];
    history.checks = vec![check(1, 0, 2000, Verdict::Allow), check(1, 0, 2001, Verdict::Deny(403))];
    assert_eq!(count(&history), 0);
    history.checks.push(check(1, 0, 500, Verdict::Deny(403)));
    assert_eq!(count(&history), 1, "nobody had begun to revoke it");
}

#[test]
fn silence_excuses_only_until_it_has_to_be_noticed() {
    let allowed = |kind, replica, acknowledged, began| {
        let mut history = quiet();
        history.faults = vec![fault(kind, replica, 1000, 9000)];
        history.revocations = vec![revoked(1, Way::Exchange, acknowledged)];
        history.checks = vec![check(1, 0, began, Verdict::Allow)];
        count(&history)
    };
    let frozen = FaultKind::LinkFrozen;
    assert_eq!(allowed(frozen, Some(0), 1500, 3025), 0);
    assert_eq!(allowed(frozen, Some(0), 1500, 3026), 1, "it must have been noticed at 3000");
    assert_eq!(allowed(frozen, Some(0), 4000, 4026), 1, "from then on there is no excuse");
    assert_eq!(allowed(frozen, Some(1), 1500, 1526), 1, "this replica was not concerned");
    assert_eq!(allowed(FaultKind::BrokerKilled, None, 1500, 1526), 1, "a closed connection shows");
    assert_eq!(allowed(FaultKind::Flood, None, 5000, 7025), 0);
    assert_eq!(allowed(FaultKind::Flood, None, 5000, 7026), 1);
}

#[test]
fn what_is_in_the_outbox_waits_for_the_store_and_a_receipt_for_nothing() {
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
    // Without a relay, replicas look for themselves.
    assert_eq!(allowed(FaultKind::RelayKilled, Way::Outbox, 1425), 0);
    assert_eq!(allowed(FaultKind::RelayKilled, Way::Outbox, 1426), 1);
    assert_eq!(allowed(FaultKind::BrokerPaused, Way::Receipt, 926), 1);
}

#[test]
fn what_was_only_in_an_emptied_store_is_lost_and_nothing_else() {
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
fn time_in_which_the_machine_stood_still_counts_once_and_for_nobody() {
    let mut history = quiet();
    history.stalls = vec![span(1000, 1100), span(1050, 1100), span(1200, 1250)];
    history.revocations = vec![revoked(1, Way::Exchange, 1000)];
    history.checks = vec![check(1, 0, 1125, Verdict::Allow)];
    assert_eq!(count(&history), 0);
    history.checks = vec![check(1, 0, 1126, Verdict::Allow)];
    assert_eq!(count(&history), 1);
}

#[test]
fn a_cut_off_covers_what_was_issued_up_to_its_time() {
    let mut history = quiet();
    history.tokens =
        [99, 100, 101].map(|issued_at| Token { subject: 7, session: 8, issued_at }).to_vec();
    for target in [
        Target::Subject { subject: 7, issued_before: 100 },
        Target::Session { session: 8, issued_before: 100 },
    ] {
        history.revocations = vec![Revocation { target, ..revoked(0, Way::Exchange, 1000) }];
        history.checks = (0..3).map(|token| check(token, 0, 2000, Verdict::Allow)).collect();
        assert_eq!(count(&history), 2, "the third one is younger");
        history.checks = (0..3).map(|token| check(token, 0, 2000, Verdict::Deny(403))).collect();
        assert_eq!(count(&history), 1, "and must be allowed");
    }
}

#[test]
fn only_a_replica_that_was_surely_ready_can_refuse_and_only_a_surely_unready_one_is_excused() {
    let look = |at, ready| Look { replica: 0, ready, span: span(at, at + 1) };
    let judged = |looks: Vec<Look>, verdict| {
        let mut history = quiet();
        history.looks = looks;
        history.revocations = vec![revoked(1, Way::Exchange, 0)];
        let token = if verdict == Verdict::Allow { 1 } else { 2 };
        history.checks = vec![check(token, 0, 1000, verdict)];
        count(&history)
    };
    let ready = || vec![look(900, true), look(1100, true)];
    let unready = || vec![look(900, false), look(1100, false)];
    let turning = || vec![look(900, true), look(1100, false)];
    assert_eq!([judged(ready(), Verdict::Allow), judged(ready(), Verdict::Failed)], [1, 1]);
    assert_eq!([judged(unready(), Verdict::Allow), judged(unready(), Verdict::Failed)], [0, 0]);
    assert_eq!([judged(turning(), Verdict::Allow), judged(turning(), Verdict::Failed)], [1, 0]);
}

#[test]
fn failed_checks_are_counted_by_fault_and_those_of_a_dead_replica_are_not() {
    let mut history = quiet();
    history.faults = vec![fault(FaultKind::BrokerKilled, None, 1000, 2000)];
    history.deaths = vec![(1, span(3000, 4000))];
    history.checks = vec![
        check(2, 0, 500, Verdict::Deny(500)),
        check(2, 0, 1500, Verdict::Failed),
        check(2, 1, 3500, Verdict::Failed),
    ];
    let findings = judge(0, &history, &RULES);
    assert_eq!(findings.failed, [(None, 1), (Some(FaultKind::BrokerKilled), 1)].into());
    assert_eq!((findings.violations.len(), findings.excused), (2, 1));
}

#[test]
fn a_violation_names_the_revocation_the_check_their_times_the_fault_and_the_seed() {
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

/// A history in which every promise is kept: what is revoked is allowed until it must be denied at
/// the latest, and everything else is allowed.
fn clean() -> impl Strategy<Value = History> {
    let revocations = prop::collection::vec((0..10_usize, 0..3_usize, 1..5000_u64), 0..12);
    let faults = prop::collection::vec((0..16_usize, 0..4_usize, 0..5000_u64, 0..4000_u64), 0..4);
    let checks = prop::collection::vec((0..10_usize, 0..REPLICAS, 0..9000_u64), 0..200);
    (revocations, faults, checks).prop_map(|(revocations, faults, checks)| {
        let mut history = quiet();
        let ways = [Way::Exchange, Way::Outbox, Way::Receipt];
        history.revocations =
            revocations.into_iter().map(|(token, way, at)| revoked(token, ways[way], at)).collect();
        let fault = |(kind, replica, began, length): (usize, usize, u64, u64)| {
            let replica = Some(replica).filter(|replica| *replica < REPLICAS);
            fault(FaultKind::ALL[kind], replica, began, began + length)
        };
        history.faults = faults.into_iter().map(fault).collect();
        let asked = |(token, replica, at): (usize, usize, u64)| {
            let revoked = history.revocations.iter().any(|revocation| {
                revocation.target == Target::Token(token)
                    && revocation.acknowledged.is_some_and(|acknowledged| acknowledged < ms(at))
            });
            let verdict = if revoked { Verdict::Deny(403) } else { Verdict::Allow };
            check(token, replica, at, verdict)
        };
        history.checks = checks.into_iter().map(asked).collect();
        history
    })
}

proptest! {
    #[test]
    fn a_clean_history_passes(history in clean()) {
        prop_assert_eq!(count(&history), 0);
    }

    #[test]
    fn a_planted_allow_is_found_whatever_else_happened(
        mut history in clean(),
        token in 0..10_usize,
        replica in 0..REPLICAS,
        way in prop::sample::select(vec![Way::Exchange, Way::Outbox, Way::Receipt]),
    ) {
        // Long after every fault has ended or must have been noticed, there is no excuse.
        history.revocations.push(revoked(token, way, 20_000));
        history.checks.push(check(token, replica, 20_526, Verdict::Allow));
        let findings = judge(0, &history, &RULES);
        prop_assert_eq!(findings.violations.len(), 1);
        let planted = Check { token, replica, verdict: Verdict::Allow, span: span(20_526, 20_527) };
        prop_assert_eq!(findings.violations[0].check, planted);
    }

    #[test]
    fn a_missed_revocation_is_found_although_faults_surround_it(
        mut history in clean(),
        token in 0..10_usize,
        replica in 0..REPLICAS,
        acknowledged in 1..5000_u64,
    ) {
        history.revocations.push(revoked(token, Way::Exchange, acknowledged));
        // Earlier checks of this token may be allowed too late by now, or not.
        let planted = check(token, replica, 50_000, Verdict::Allow);
        history.checks.push(planted);
        let findings = judge(0, &history, &RULES);
        prop_assert!(findings.violations.iter().any(|violation| violation.check == planted));
    }

    #[test]
    fn a_planted_refusal_is_found(
        mut history in clean(),
        replica in 0..REPLICAS,
        at in 0..9000_u64,
        verdict in prop::sample::select(vec![Verdict::Deny(403), Verdict::Deny(500), Verdict::Failed]),
    ) {
        history.tokens.push(Token { subject: 10, session: 10, issued_at: 100 });
        history.checks.push(check(10, replica, at, verdict));
        let findings = judge(0, &history, &RULES);
        prop_assert_eq!(findings.violations.len(), 1);
        prop_assert_eq!(findings.failed.values().sum::<u64>(), 1);
    }
}
