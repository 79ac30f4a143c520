//! What the state machine does when, one sentence for each rule.

use super::*;

const STREAM: Rules =
    Rules { broker: true, resumes: true, serves_unbound: true, reads_store: true, holes: 0 };
const STORE_ALONE: Rules = Rules { broker: false, resumes: false, ..STREAM };

fn mark(offset: u64) -> Mark {
    Mark { offset, digest: offset * 7 }
}

fn delivered(offset: u64) -> Input {
    Input::Delivered { mark: Some(mark(offset)), probe: None }
}

fn own_probe(offset: u64, number: u64) -> Input {
    Input::Delivered { mark: Some(mark(offset)), probe: Some(Returned { number, in_time: true }) }
}

fn late_probe(offset: u64, number: u64) -> Input {
    Input::Delivered { mark: Some(mark(offset)), probe: Some(Returned { number, in_time: false }) }
}

/// What is read before the set is complete for the first time, and later.
const FIRST_SNAPSHOT: Output = Output::StartSnapshot(SnapshotKind::TokenIds);
const SNAPSHOT: Output = Output::StartSnapshot(SnapshotKind::MissingExpiries);

const LIVE: [Output; 1] = [Output::Say(Say::InitDone)];
const SOON: Output = Output::ReadAgain(NextRead::Soon);
const REGULARLY: Output = Output::ReadAgain(NextRead::Regularly);
const RETRY: Output = Output::ReadAgain(NextRead::Retry);

/// A state machine that has gone through all of this.
fn after(rules: Rules, inputs: &[Input]) -> SyncState {
    let mut state = SyncState::new(rules);
    for input in inputs {
        state.on(*input);
    }
    state
}

/// One that went live with the stream at offset 10, and has read the store a second time.
fn live(rules: Rules) -> SyncState {
    let inputs = [Input::Start, Input::Bound, own_probe(9, 1), Input::SnapshotDone];
    let mut state = after(rules, &inputs);
    state.on(own_probe(10, 2));
    state.on(Input::SnapshotDue);
    assert_eq!(state.on(Input::SnapshotDone), [REGULARLY]);
    assert!(state.is_live());
    state
}

/// One that was live and whose connection is being made again.
fn reconnecting() -> SyncState {
    let mut state = live(STREAM);
    state.on(Input::Lost);
    let connect = state.on(Input::ConnectDue);
    assert_eq!(connect, [Output::Connect(Position::At(mark(10)))]);
    state
}

/// The same, once the stream goes on where it was left and a probe has come back.
fn resumed() -> SyncState {
    let mut state = reconnecting();
    assert_eq!(state.on(Input::Bound), [Output::Probe(3)]);
    let goes_on = [Output::Say(Say::Init), Output::Say(Say::Replay)];
    assert_eq!(state.on(delivered(10)), goes_on);
    assert_eq!(state.on(own_probe(11, 3)), [SNAPSHOT]);
    state
}

fn said(outputs: &[Output]) -> Vec<Say> {
    let said = |output: &Output| match output {
        Output::Say(say) => Some(*say),
        _ => None,
    };
    outputs.iter().filter_map(said).collect()
}

#[test]
fn what_arrives_late_is_not_current_until_a_probe_is_quick_again() {
    let mut state = live(STREAM);
    let outputs = state.on(Input::Late);
    assert_eq!(said(&outputs), [Say::Lost(Cause::Late), Say::Init, Say::Replay]);
    assert_eq!(outputs.last(), Some(&Output::Probe(3)));
    assert!(state.awaits_probe() && !state.is_live());
    assert_eq!(state.on(Input::Late), []);
    assert_eq!(state.on(delivered(11)), []);
    assert_eq!(state.on(own_probe(12, 2)), [], "one that was sent before");
    assert_eq!(state.on(late_probe(13, 3)), [], "one that took too long");
    assert_eq!(state.on(own_probe(14, 4)), LIVE);
    assert!(state.is_live());
}

#[test]
fn after_a_pause_the_outbox_is_read_and_then_a_probe_must_return() {
    for answer in [Input::StoreAnswered, Input::StoreSilent] {
        let mut state = live(STREAM);
        let outputs = state.on(Input::Paused);
        let expected = [Say::Lost(Cause::Paused), Say::Init, Say::Replay, Say::Paused];
        assert_eq!(said(&outputs), expected);
        assert_eq!(outputs[outputs.len() - 3..][0], Output::Probe(3));
        assert_eq!(outputs.last(), Some(&Output::ReadOutbox));
        assert!(!state.is_live());
        assert_eq!(state.on(own_probe(11, 3)), [], "what was in the outbox may come behind it");
        assert_eq!(state.on(answer).last(), Some(&Output::Probe(4)));
        assert_eq!(state.on(own_probe(12, 3)), []);
        let again = state.on(Input::Paused);
        assert_eq!(again, [Output::Say(Say::Paused), Output::ReadOutbox]);
        assert_eq!(state.on(own_probe(13, 4)), [], "a probe in flight during the pause");
        assert_eq!(state.on(answer).last(), Some(&Output::Probe(5)));
        assert_ne!(state.on(answer).last(), Some(&Output::Probe(6)), "once is enough");
        assert_eq!(state.on(own_probe(14, 5)), LIVE);
    }
}

#[test]
fn the_store_is_read_once_a_probe_has_reached_the_queue() {
    let mut state = SyncState::new(STREAM);
    assert_eq!(state.on(Input::Start), [Output::Connect(Position::Replay)]);
    assert_eq!(state.on(Input::Bound), [Output::Probe(1), Output::Say(Say::Init)]);
    assert!(state.awaits_probe());
    assert_eq!(state.on(delivered(0)), []);
    assert_eq!(state.on(Input::ProbeDue), [Output::Probe(2)], "the first one may be lost");
    assert_eq!(state.on(late_probe(1, 2)), [FIRST_SNAPSHOT]);
    assert!(!state.awaits_probe());
}

#[test]
fn the_set_is_complete_when_a_probe_sent_after_the_snapshot_comes_back() {
    let mut state = after(STREAM, &[Input::Start, Input::Bound, own_probe(5, 1)]);
    assert_eq!(state.on(Input::SnapshotDone), [Output::Say(Say::Replay), Output::Probe(2), SOON]);
    assert_eq!(state.on(delivered(6)), []);
    assert_eq!(state.on(own_probe(7, 1)), []);
    assert!(state.awaits_probe() && !state.is_live());
    assert_eq!(state.on(Input::ProbeDue), [Output::Probe(3)]);
    assert_eq!(state.on(own_probe(8, 3)), LIVE);
    assert!(state.is_live());
}

#[test]
fn a_failed_snapshot_is_retried_and_nothing_is_complete_before() {
    let mut state = after(STREAM, &[Input::Start, Input::Bound, own_probe(0, 1)]);
    for _ in 0..3 {
        assert_eq!(state.on(Input::SnapshotFailed), [RETRY]);
        assert_eq!(state.on(Input::SnapshotDue), [FIRST_SNAPSHOT]);
        assert_eq!(state.on(own_probe(1, 1)), []);
    }
    state.on(Input::SnapshotDone);
    assert_eq!(state.on(own_probe(2, 2)), LIVE);
}

#[test]
fn the_store_is_read_again_soon_after_connecting_and_regularly_later() {
    let mut state = resumed();
    let outputs = state.on(Input::SnapshotDone);
    assert_eq!(outputs.last(), Some(&SOON));
    state.on(own_probe(12, 4));
    for _ in 0..3 {
        assert_eq!(state.on(Input::SnapshotDue), [SNAPSHOT]);
        assert_eq!(state.on(Input::SnapshotFailed), [RETRY], "for ever");
        assert_eq!(state.on(Input::SnapshotDue), [SNAPSHOT]);
        assert_eq!(state.on(Input::SnapshotDone), [REGULARLY]);
        assert!(state.is_live(), "whatever becomes of it");
    }
}

#[test]
fn a_lost_stream_resumes_at_the_last_message_and_the_store_is_read() {
    let mut state = live(STREAM);
    state.on(delivered(11));
    let lost = state.on(Input::Lost);
    assert_eq!(lost, [Output::Say(Say::Lost(Cause::Broker)), Output::Pause(Pause::Backoff)]);
    assert_eq!(state.on(Input::ConnectDue), [Output::Connect(Position::At(mark(11)))]);
    assert_eq!(state.on(Input::Bound), [Output::Probe(3)]);
    assert!(state.has_seen(Some(mark(11))) && !state.has_seen(Some(mark(12))));
    assert_eq!(state.on(delivered(11)), [Output::Say(Say::Init), Output::Say(Say::Replay)]);
    assert_eq!(state.on(delivered(12)), []);
    assert_eq!(state.on(own_probe(13, 3)), [SNAPSHOT]);
    assert!(state.is_resuming());
    assert_eq!(state.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(state.on(Input::SnapshotDone), [Output::Say(Say::Replay), Output::Probe(4), SOON]);
    assert_eq!(state.on(own_probe(14, 4)), LIVE);
}

#[test]
fn a_resumed_stream_that_is_lost_resumes_at_the_last_message() {
    for state in [reconnecting(), resumed()] {
        let mut state = state;
        let expected = if state.is_resuming() { 11 } else { 10 };
        state.on(Input::Lost);
        assert_eq!(state.on(Input::ConnectDue), [Output::Connect(Position::At(mark(expected)))]);
    }
}

#[test]
fn a_silent_store_does_not_block_a_resumed_stream() {
    let mut state = resumed();
    assert_eq!(state.on(Input::SnapshotFailed), [Output::Probe(4), RETRY]);
    assert_eq!(state.on(own_probe(12, 4)), LIVE);
    assert_eq!(state.on(Input::SnapshotDue), [SNAPSHOT]);
    assert_eq!(state.on(Input::SnapshotDone), [SOON]);
}

#[test]
fn a_stream_with_a_gap_needs_a_snapshot() {
    let recreated = Mark { offset: 10, digest: 0 };
    let others = [
        delivered(11),
        delivered(0),
        own_probe(0, 3),
        Input::Delivered { mark: Some(recreated), probe: None },
        Input::Delivered { mark: None, probe: None },
    ];
    for first in others {
        let mut state = reconnecting();
        state.on(Input::Bound);
        let outputs = state.on(first);
        let expected =
            [Output::Disconnect, Output::Say(Say::Lost(Cause::Gap)), Output::Pause(Pause::Spread)];
        assert_eq!(outputs, expected, "{first:?}");
        assert_eq!(state.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
        assert_eq!(state.on(Input::Bound), [Output::Probe(4), Output::Say(Say::Init)]);
        assert_eq!(state.on(own_probe(0, 3)), [], "one that was sent before");
        assert_eq!(state.on(own_probe(1, 4)), [SNAPSHOT]);
        state.on(Input::SnapshotDone);
        assert_eq!(state.on(own_probe(2, 5)), LIVE);
    }
}

#[test]
fn a_hole_in_the_stream_is_a_loss() {
    let mut state = live(STREAM);
    assert_eq!(state.on(delivered(10)), [], "the same once more");
    assert_eq!(state.on(delivered(11)), []);
    let outputs = state.on(delivered(13));
    assert_eq!(outputs.first(), Some(&Output::Disconnect));
    assert_eq!(said(&outputs), [Say::Lost(Cause::Gap)]);
    let mut state = live(Rules { holes: 8, ..STREAM });
    assert_eq!(state.on(delivered(19)), [], "as the broker leaves between its segments");
    assert_eq!(said(&state.on(delivered(29))), [Say::Lost(Cause::Gap)]);
}

#[test]
fn a_loss_before_a_complete_snapshot_starts_over() {
    for inputs in [vec![delivered(3)], vec![delivered(3), own_probe(4, 1)]] {
        let begun = [&[Input::Start, Input::Bound], &inputs[..]].concat();
        let mut state = after(STREAM, &begun);
        state.on(Input::Lost);
        assert_eq!(state.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
    }
}

#[test]
fn a_loss_while_connecting_resumes_and_one_while_resuming_starts_over() {
    let mut state = reconnecting();
    state.on(Input::Lost);
    assert_eq!(state.on(Input::ConnectDue), [Output::Connect(Position::At(mark(10)))]);
    state.on(Input::Bound);
    // A recreated stream delivers nothing at an offset that it has not reached yet.
    state.on(Input::Lost);
    assert_eq!(state.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
}

#[test]
fn an_exclusive_queue_needs_a_snapshot_after_each_loss() {
    let rules = Rules { resumes: false, ..STREAM };
    let nowhere =
        |number| Input::Delivered { mark: None, probe: Some(Returned { number, in_time: true }) };
    let inputs = [Input::Start, Input::Bound, nowhere(1), Input::SnapshotDone];
    let mut state = after(rules, &inputs);
    assert_eq!(state.on(nowhere(2)), LIVE);
    let lost = state.on(Input::Lost);
    let spread = [Output::Say(Say::Lost(Cause::Broker)), Output::Pause(Pause::Spread)];
    assert_eq!(lost, spread, "not all replicas at once");
    assert_eq!(state.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
    state.on(Input::Bound);
    assert_eq!(state.on(nowhere(3)), [SNAPSHOT]);
}

#[test]
fn without_the_broker_a_complete_set_serves_if_misses_are_looked_up() {
    let ensured = Output::EnsureSnapshot(SnapshotKind::TokenIds);
    let mut state = after(STREAM, &[Input::Start]);
    let lost = state.on(Input::Lost);
    assert_eq!(lost.last(), Some(&ensured));
    assert_eq!(state.on(Input::StoreAnswered), [], "nothing is complete yet");
    assert_eq!(state.on(Input::SnapshotDone), [Output::Say(Say::Unbound), SOON]);
    assert_eq!(state.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(state.on(Input::StoreSilent), []);
    state.on(Input::ConnectDue);
    state.on(Input::Bound);
    assert_eq!(
        state.on(own_probe(0, 1)),
        [SNAPSHOT],
        "what was published between that snapshot and this is in neither"
    );
}

#[test]
fn a_started_replica_serves_with_late_probes_if_it_looks_up_misses() {
    let served = [Say::Unbound, Say::Init, Say::Replay];
    for input in [Input::Late, Input::Blocked] {
        let to_catch_up = [Input::Start, Input::Bound, own_probe(0, 1), Input::SnapshotDone];
        let mut state = after(STREAM, &to_catch_up);
        assert_eq!(said(&state.on(input)), served, "{input:?}");
        assert_eq!(state.on(input), [], "{input:?}: once");
        assert!(state.awaits_probe() && !state.is_live());
        assert_eq!(state.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
        assert_eq!(state.on(own_probe(1, 2)), LIVE);
        assert_eq!(live(STREAM).on(Input::Blocked), [], "an alarm alone ends nothing");
        let rules = Rules { serves_unbound: false, ..STREAM };
        assert_eq!(after(rules, &to_catch_up).on(input), [], "misses would not be looked up");
    }
}

#[test]
fn a_replica_started_in_an_alarm_reads_the_store_without_a_probe() {
    let mut state = after(STREAM, &[Input::Start, Input::Bound]);
    let ensured = [Output::EnsureSnapshot(SnapshotKind::TokenIds)];
    assert_eq!(state.on(Input::Blocked), ensured);
    let outputs = state.on(Input::SnapshotDone);
    assert_eq!(said(&outputs), [Say::Unbound, Say::Init]);
    assert_eq!(outputs.last(), Some(&SOON), "for the expiries");
    assert_eq!(state.on(Input::Blocked), []);
    assert_eq!(state.on(Input::SnapshotDue), [SNAPSHOT]);
    assert_eq!(state.on(Input::SnapshotDone), [REGULARLY], "however long the alarm lasts");
    assert!(!state.is_live());
    assert_eq!(state.on(own_probe(0, 1)), [SNAPSHOT], "what was published since is read");
    assert_eq!(state.on(Input::SnapshotDone), [Output::Say(Say::Replay), Output::Probe(2), SOON]);
    assert_eq!(state.on(own_probe(1, 2)), LIVE);
}

#[test]
fn a_replica_interrupted_before_it_was_live_reads_the_store_in_an_alarm() {
    let to_catch_up = [Input::Start, Input::Bound, own_probe(0, 1), Input::SnapshotDone];
    let mut state = after(STREAM, &to_catch_up);
    let lost = state.on(Input::Lost);
    assert_eq!(lost.last(), Some(&Output::EnsureSnapshot(SnapshotKind::TokenIds)));
    assert_eq!(state.on(Input::ConnectDue), [Output::Connect(Position::At(mark(0)))]);
    assert_eq!(state.on(Input::Bound), [Output::Probe(3)]);
    assert_eq!(state.on(Input::Blocked), [Output::EnsureSnapshot(SnapshotKind::TokenIds)]);
    assert_eq!(state.on(Input::SnapshotDone), [Output::Say(Say::Unbound), SOON]);
    assert_eq!(state.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(said(&state.on(own_probe(0, 1))), [Say::Init, Say::Replay]);
}

#[test]
fn without_the_broker_nothing_serves_if_misses_are_not_looked_up() {
    let rules = Rules { serves_unbound: false, ..STREAM };
    let mut state = after(rules, &[Input::Start]);
    let lost = state.on(Input::Lost);
    assert_eq!(lost, [Output::Say(Say::Lost(Cause::Broker)), Output::Pause(Pause::Backoff)]);
    assert_eq!(state.on(Input::StoreAnswered), []);
    let mut state = live(rules);
    state.on(Input::Lost);
    assert_eq!(state.on(Input::StoreAnswered), [], "the store's answer makes nothing fresh");
}

#[test]
fn while_stale_every_answer_of_the_store_keeps_the_set_fresh() {
    let mut state = live(STREAM);
    assert_eq!(state.on(Input::StoreAnswered), []);
    assert_eq!(state.on(Input::StoreSilent), [], "the loss of the store costs nothing");
    assert!(state.is_live());
    state.on(Input::Lost);
    assert_eq!(state.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(state.on(Input::StoreSilent), []);
    state.on(Input::ConnectDue);
    assert_eq!(state.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
}

#[test]
fn with_the_store_alone_its_answers_decide() {
    let mut state = SyncState::new(STORE_ALONE);
    let begin = [Output::Say(Say::Init), FIRST_SNAPSHOT];
    assert_eq!(state.on(Input::Start), begin);
    assert_eq!(state.on(Input::SnapshotFailed), [Output::Say(Say::Lost(Cause::Store)), RETRY]);
    assert_eq!(state.on(Input::StoreAnswered), []);
    assert_eq!(state.on(Input::SnapshotDue), begin);
    assert_eq!(said(&state.on(Input::SnapshotDone)), [Say::Replay, Say::InitDone]);
    assert_eq!(state.on(Input::StoreSilent), [Output::Say(Say::Lost(Cause::Store))]);
    assert_eq!(state.on(Input::StoreSilent), []);
    assert_eq!(said(&state.on(Input::StoreAnswered)), [Say::Init, Say::InitDone]);
    assert!(state.is_live());
    assert_eq!(state.on(Input::SnapshotDue), [SNAPSHOT]);
}

#[test]
fn what_belongs_to_a_connection_that_is_gone_changes_nothing() {
    let mut state = live(STREAM);
    state.on(Input::Lost);
    let before = state.clone();
    for late in
        [Input::Bound, delivered(11), own_probe(11, 9), Input::ProbeDue, Input::Lost, Input::Late]
    {
        assert_eq!(state.on(late), [], "{late:?}");
    }
    assert_eq!(state, before);
}
