//! Tests of the checker with tokens that expire during a run.

use super::*;

/// The snapshot interval of these tests.
const RESNAPSHOT: Duration = Duration::from_secs(3);

#[test]
fn an_expired_token_is_denied_as_invalid_and_never_allowed() {
    let mut history = quiet();
    history.tokens[2].expires = Some(ms(10_000));
    let invalid = Verdict::Deny(Reason::InvalidToken);
    let judged = |history: &mut History, began, verdict| {
        history.checks = vec![check(2, 0, began, verdict)];
        count(history)
    };
    assert_eq!(judged(&mut history, 3000, invalid), 1, "clocks do not differ by that much");
    assert_eq!(judged(&mut history, 10_100, invalid), 0);
    assert_eq!(judged(&mut history, 14_000, Verdict::Allow), 0, "by the leeway");
    assert_eq!(judged(&mut history, 21_001, Verdict::Allow), 1);
}

/// The number of violations if a token is allowed that was revoked in this way after one second and
/// expires after twenty.
fn allowed(way: Way, mode: Mode, began: u64, faults: &[Fault]) -> usize {
    let mut history = quiet();
    history.setup = Setup { mode, resnapshot: RESNAPSHOT, ..Setup::default() };
    history.tokens[1].expires = Some(ms(20_000));
    history.revocations = vec![revoked(1, way, 1000)];
    history.faults = faults.to_vec();
    history.checks = vec![check(1, 0, began, Verdict::Allow)];
    count(&history)
}

#[test]
fn a_key_that_a_replica_has_read_counts_beyond_the_expiry() {
    for began in [19_998, 20_000, 24_000] {
        assert_eq!(allowed(Way::Store, Mode::Authoritative, began, &[]), 1, "{began}");
    }
}

#[test]
fn a_key_that_expired_before_a_restart_promises_nothing() {
    let killed = [fault(FaultKind::ReplicaKilled, Some(0), 12_000, 14_000)];
    assert_eq!(allowed(Way::Store, Mode::Authoritative, 19_998, &killed), 1, "the key is there");
    assert_eq!(allowed(Way::Store, Mode::Authoritative, 20_000, &killed), 0);
    assert_eq!(allowed(Way::Store, Mode::RedisAlways, 20_000, &killed), 1, "the store is queried");
    assert_eq!(allowed(Way::Exchange, Mode::Authoritative, 20_000, &killed), 1, "an event stays");
    let other = [fault(FaultKind::ReplicaKilled, Some(1), 12_000, 14_000)];
    assert_eq!(allowed(Way::Store, Mode::Authoritative, 20_000, &other), 1, "another replica");
}

#[test]
fn a_key_that_expired_before_the_next_snapshot_promises_nothing() {
    let mut history = quiet();
    history.setup = Setup { resnapshot: RESNAPSHOT, ..Setup::default() };
    history.tokens[1].expires = Some(ms(4000));
    history.revocations = vec![revoked(1, Way::Store, 1000)];
    history.checks = vec![check(1, 0, 8900, Verdict::Allow)];
    assert_eq!(count(&history), 0);
}
