//! Tests of the checker with stalls of the machine.

use super::*;

/// The number of violations if the machine is stalled, and a token gets this verdict after eight
/// seconds. Only token 1 is revoked.
fn judged(stall: Span, token: usize, verdict: Verdict) -> usize {
    let mut history = quiet();
    history.stalls = vec![stall];
    history.revocations = vec![revoked(1, Way::Exchange, 500)];
    history.checks = vec![check(token, 0, 8000, verdict)];
    count(&history)
}

#[test]
fn a_long_stall_excuses_that_a_replica_is_in_doubt_afterwards() {
    for reason in [Reason::NotReady, Reason::StoreUnavailable] {
        let denied = Verdict::Deny(reason);
        for token in [1, 2] {
            assert_eq!(judged(span(2500, 3500), token, denied), 0, "{reason:?}");
            assert_eq!(judged(span(7500, 8500), token, denied), 0, "{reason:?}");
            assert_eq!(judged(span(2501, 3500), token, denied), 1, "{reason:?}: it was short");
            assert_eq!(judged(span(1500, 2999), token, denied), 1, "{reason:?}: it was long ago");
            assert_eq!(judged(span(8002, 9500), token, denied), 1, "{reason:?}: it came later");
        }
    }
}

#[test]
fn a_stall_excuses_no_other_answer() {
    let stall = span(4000, 6000);
    assert_eq!(judged(stall, 1, Verdict::Allow), 1, "the token is revoked");
    for verdict in [Reason::Revoked, Reason::InvalidToken, Reason::Other].map(Verdict::Deny) {
        assert_eq!(judged(stall, 2, verdict), 1, "{verdict:?}");
    }
    assert_eq!(judged(stall, 2, Verdict::Failed), 1);
}
