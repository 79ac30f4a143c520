//! Property tests of the checker, on random histories.

use proptest::prelude::*;

use super::*;

/// A history in which every promise is kept: a revoked token is denied from the acknowledgement on,
/// and every other token is allowed.
fn clean() -> impl Strategy<Value = History> {
    let revocations = prop::collection::vec((0..10_usize, 0..3_usize, 1..5000_u64), 0..12);
    let faults = prop::collection::vec(
        (0..FaultKind::ALL.len(), 0..4_usize, 0..5000_u64, 0..4000_u64),
        0..4,
    );
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
            let verdict = if revoked { DENIED } else { Verdict::Allow };
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
    fn a_planted_allow_is_found_in_any_history(
        mut history in clean(),
        token in 0..10_usize,
        replica in 0..REPLICAS,
        way in prop::sample::select(vec![Way::Exchange, Way::Outbox, Way::Receipt]),
    ) {
        // Long after every fault has ended or must have been detected, there is no excuse.
        history.revocations.push(revoked(token, way, 20_000));
        history.checks.push(check(token, replica, 20_526, Verdict::Allow));
        let findings = judge(0, &history, &RULES);
        prop_assert_eq!(findings.violations.len(), 1);
        let planted = Check { token, replica, verdict: Verdict::Allow, span: span(20_526, 20_527) };
        prop_assert_eq!(findings.violations[0].check, planted);
    }

    #[test]
    fn a_missed_revocation_is_found_among_faults(
        mut history in clean(),
        token in 0..10_usize,
        replica in 0..REPLICAS,
        acknowledged in 1..5000_u64,
    ) {
        history.revocations.push(revoked(token, Way::Exchange, acknowledged));
        // The next snapshot finds what an unbound stream lost.
        history.setup.resnapshot = Duration::from_secs(2);
        // Earlier checks of this token may be violations, too.
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
        verdict in prop::sample::select(
            vec![DENIED, Verdict::Deny(Reason::StoreUnavailable), Verdict::Deny(Reason::Other)],
        ),
    ) {
        history.tokens.push(Token {
            subject: 10,
            session: 10,
            issued_at: 100,
            expires: None,
        });
        history.checks.push(check(10, replica, at, verdict));
        let findings = judge(0, &history, &RULES);
        prop_assert_eq!(findings.violations.len(), 1);
        prop_assert_eq!(findings.failed.values().sum::<u64>(), 1);
    }
}
