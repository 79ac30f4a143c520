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
const FIRST_SNAPSHOT: Output = Output::StartSnapshot(Reading::TokenIds);
const SNAPSHOT: Output = Output::StartSnapshot(Reading::MissingExpiries);

const LIVE: [Output; 1] = [Output::Say(Say::InitDone)];
const SOON: Output = Output::ReadAgain(Again::Soon);
const REGULARLY: Output = Output::ReadAgain(Again::Regularly);
const RETRY: Output = Output::ReadAgain(Again::Retry);

/// A state machine that has gone through all of this.
fn after(rules: Rules, inputs: &[Input]) -> Core {
    let mut core = Core::new(rules);
    for input in inputs {
        core.on(*input);
    }
    core
}

/// One that went live with the stream at offset 10, and has read the store a second time.
fn live(rules: Rules) -> Core {
    let inputs = [Input::Start, Input::Bound, own_probe(9, 1), Input::SnapshotDone];
    let mut core = after(rules, &inputs);
    core.on(own_probe(10, 2));
    core.on(Input::SnapshotDue);
    assert_eq!(core.on(Input::SnapshotDone), [REGULARLY]);
    assert!(core.is_live());
    core
}

/// One that was live and whose connection is being made again.
fn reconnecting() -> Core {
    let mut core = live(STREAM);
    core.on(Input::Lost);
    let connect = core.on(Input::ConnectDue);
    assert_eq!(connect, [Output::Connect(Position::At(mark(10)))]);
    core
}

/// The same, once the stream goes on where it was left and a probe has come back.
fn resumed() -> Core {
    let mut core = reconnecting();
    assert_eq!(core.on(Input::Bound), [Output::Probe(3)]);
    let goes_on = [Output::Say(Say::Init), Output::Say(Say::Replay)];
    assert_eq!(core.on(delivered(10)), goes_on);
    assert_eq!(core.on(own_probe(11, 3)), [SNAPSHOT]);
    core
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
    for (input, cause) in [(Input::Late, Cause::Late), (Input::Paused, Cause::Paused)] {
        let mut core = live(STREAM);
        let outputs = core.on(input);
        assert_eq!(said(&outputs), [Say::Lost(cause), Say::Init, Say::Replay]);
        assert_eq!(outputs.last(), Some(&Output::Probe(3)));
        assert!(core.awaits_probe() && !core.is_live());
        let again = core.on(input);
        let expected: &[Output] = if input == Input::Late { &[] } else { &[Output::Probe(4)] };
        assert_eq!(again, expected, "what was under way when it stood still proves nothing");
        let number = if input == Input::Late { 3 } else { 4 };
        assert_eq!(core.on(delivered(11)), []);
        assert_eq!(core.on(own_probe(12, 2)), [], "one that was sent before");
        assert_eq!(core.on(late_probe(13, number)), [], "one that took too long");
        assert_eq!(core.on(own_probe(14, number + 1)), LIVE);
        assert!(core.is_live());
    }
}

#[test]
fn the_store_is_read_once_a_probe_has_shown_that_the_queue_gets_what_is_published() {
    let mut core = Core::new(STREAM);
    assert_eq!(core.on(Input::Start), [Output::Connect(Position::Replay)]);
    assert_eq!(core.on(Input::Bound), [Output::Probe(1), Output::Say(Say::Init)]);
    assert!(core.awaits_probe());
    assert_eq!(core.on(delivered(0)), []);
    assert_eq!(core.on(Input::ProbeDue), [Output::Probe(2)], "the first one may be lost");
    assert_eq!(core.on(late_probe(1, 2)), [FIRST_SNAPSHOT]);
    assert!(!core.awaits_probe());
}

#[test]
fn the_set_is_complete_when_a_probe_sent_after_the_snapshot_comes_back() {
    let mut core = after(STREAM, &[Input::Start, Input::Bound, own_probe(5, 1)]);
    assert_eq!(core.on(Input::SnapshotDone), [Output::Say(Say::Replay), Output::Probe(2), SOON]);
    assert_eq!(core.on(delivered(6)), []);
    assert_eq!(core.on(own_probe(7, 1)), []);
    assert!(core.awaits_probe() && !core.is_live());
    assert_eq!(core.on(Input::ProbeDue), [Output::Probe(3)]);
    assert_eq!(core.on(own_probe(8, 3)), LIVE);
    assert!(core.is_live());
}

#[test]
fn a_snapshot_that_fails_is_read_again_and_nothing_is_complete_before() {
    let mut core = after(STREAM, &[Input::Start, Input::Bound, own_probe(0, 1)]);
    for _ in 0..3 {
        assert_eq!(core.on(Input::SnapshotFailed), [RETRY]);
        assert_eq!(core.on(Input::SnapshotDue), [FIRST_SNAPSHOT]);
        assert_eq!(core.on(own_probe(1, 1)), []);
    }
    core.on(Input::SnapshotDone);
    assert_eq!(core.on(own_probe(2, 2)), LIVE);
}

#[test]
fn the_store_is_read_again_soon_after_a_connection_is_made_and_regularly_later() {
    let mut core = resumed();
    let outputs = core.on(Input::SnapshotDone);
    assert_eq!(outputs.last(), Some(&SOON));
    core.on(own_probe(12, 4));
    for _ in 0..3 {
        assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
        assert_eq!(core.on(Input::SnapshotFailed), [RETRY], "for ever");
        assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
        assert_eq!(core.on(Input::SnapshotDone), [REGULARLY]);
        assert!(core.is_live(), "whatever becomes of it");
    }
}

#[test]
fn a_lost_stream_is_read_on_from_the_last_message_and_the_store_is_read_as_well() {
    let mut core = live(STREAM);
    core.on(delivered(11));
    let lost = core.on(Input::Lost);
    assert_eq!(lost, [Output::Say(Say::Lost(Cause::Broker)), Output::Pause(Pause::Backoff)]);
    assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::At(mark(11)))]);
    assert_eq!(core.on(Input::Bound), [Output::Probe(3)]);
    assert!(core.has_seen(Some(mark(11))) && !core.has_seen(Some(mark(12))));
    assert_eq!(core.on(delivered(11)), [Output::Say(Say::Init), Output::Say(Say::Replay)]);
    assert_eq!(core.on(delivered(12)), []);
    assert_eq!(core.on(own_probe(13, 3)), [SNAPSHOT]);
    assert!(core.is_resuming());
    assert_eq!(core.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(core.on(Input::SnapshotDone), [Output::Say(Say::Replay), Output::Probe(4), SOON]);
    assert_eq!(core.on(own_probe(14, 4)), LIVE);
}

#[test]
fn a_resumed_stream_that_is_lost_is_read_on_from_the_last_message() {
    for core in [reconnecting(), resumed()] {
        let mut core = core;
        let expected = if core.is_resuming() { 11 } else { 10 };
        core.on(Input::Lost);
        assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::At(mark(expected)))]);
    }
}

#[test]
fn a_store_that_does_not_answer_holds_up_no_resumed_stream() {
    let mut core = resumed();
    assert_eq!(core.on(Input::SnapshotFailed), [Output::Probe(4), RETRY]);
    assert_eq!(core.on(own_probe(12, 4)), LIVE);
    assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
    assert_eq!(core.on(Input::SnapshotDone), [SOON]);
}

#[test]
fn a_stream_that_does_not_go_on_where_it_was_left_needs_a_snapshot() {
    let recreated = Mark { offset: 10, digest: 0 };
    let others = [
        delivered(11),
        delivered(0),
        own_probe(0, 3),
        Input::Delivered { mark: Some(recreated), probe: None },
        Input::Delivered { mark: None, probe: None },
    ];
    for first in others {
        let mut core = reconnecting();
        core.on(Input::Bound);
        let outputs = core.on(first);
        let expected =
            [Output::Disconnect, Output::Say(Say::Lost(Cause::Gap)), Output::Pause(Pause::Spread)];
        assert_eq!(outputs, expected, "{first:?}");
        assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
        assert_eq!(core.on(Input::Bound), [Output::Probe(4), Output::Say(Say::Init)]);
        assert_eq!(core.on(own_probe(0, 3)), [], "one that was sent before");
        assert_eq!(core.on(own_probe(1, 4)), [SNAPSHOT]);
        core.on(Input::SnapshotDone);
        assert_eq!(core.on(own_probe(2, 5)), LIVE);
    }
}

#[test]
fn a_hole_in_the_stream_is_a_loss() {
    let mut core = live(STREAM);
    assert_eq!(core.on(delivered(10)), [], "the same once more");
    assert_eq!(core.on(delivered(11)), []);
    let outputs = core.on(delivered(13));
    assert_eq!(outputs.first(), Some(&Output::Disconnect));
    assert_eq!(said(&outputs), [Say::Lost(Cause::Gap)]);
    let mut core = live(Rules { holes: 8, ..STREAM });
    assert_eq!(core.on(delivered(19)), [], "as the broker leaves between its segments");
    assert_eq!(said(&core.on(delivered(29))), [Say::Lost(Cause::Gap)]);
}

#[test]
fn a_loss_before_the_snapshot_was_complete_begins_from_the_beginning() {
    for inputs in [vec![delivered(3)], vec![delivered(3), own_probe(4, 1)]] {
        let begun = [&[Input::Start, Input::Bound], &inputs[..]].concat();
        let mut core = after(STREAM, &begun);
        core.on(Input::Lost);
        assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
    }
}

#[test]
fn a_loss_while_connecting_resumes_and_one_while_resuming_begins_anew() {
    let mut core = reconnecting();
    core.on(Input::Lost);
    assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::At(mark(10)))]);
    core.on(Input::Bound);
    // A stream that was made anew delivers nothing at a place that it has not reached yet.
    core.on(Input::Lost);
    assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
}

#[test]
fn a_queue_of_our_own_forgets_and_needs_a_snapshot_after_each_loss() {
    let rules = Rules { resumes: false, ..STREAM };
    let nowhere =
        |number| Input::Delivered { mark: None, probe: Some(Returned { number, in_time: true }) };
    let inputs = [Input::Start, Input::Bound, nowhere(1), Input::SnapshotDone];
    let mut core = after(rules, &inputs);
    assert_eq!(core.on(nowhere(2)), LIVE);
    let lost = core.on(Input::Lost);
    let spread = [Output::Say(Say::Lost(Cause::Broker)), Output::Pause(Pause::Spread)];
    assert_eq!(lost, spread, "not all replicas at once");
    assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
    core.on(Input::Bound);
    assert_eq!(core.on(nowhere(3)), [SNAPSHOT]);
}

#[test]
fn without_the_broker_a_complete_set_serves_if_misses_are_looked_up() {
    let ensured = Output::EnsureSnapshot(Reading::TokenIds);
    let mut core = after(STREAM, &[Input::Start]);
    let lost = core.on(Input::Lost);
    assert_eq!(lost.last(), Some(&ensured));
    assert_eq!(core.on(Input::StoreAnswered), [], "nothing is complete yet");
    assert_eq!(core.on(Input::SnapshotDone), [Output::Say(Say::Unbound), SOON]);
    assert_eq!(core.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(core.on(Input::StoreSilent), []);
    core.on(Input::ConnectDue);
    core.on(Input::Bound);
    assert_eq!(
        core.on(own_probe(0, 1)),
        [SNAPSHOT],
        "what was published between that snapshot and this is in neither"
    );
}

#[test]
fn without_the_broker_nothing_serves_if_misses_are_not_looked_up() {
    let rules = Rules { serves_unbound: false, ..STREAM };
    let mut core = after(rules, &[Input::Start]);
    let lost = core.on(Input::Lost);
    assert_eq!(lost, [Output::Say(Say::Lost(Cause::Broker)), Output::Pause(Pause::Backoff)]);
    assert_eq!(core.on(Input::StoreAnswered), []);
    let mut core = live(rules);
    core.on(Input::Lost);
    assert_eq!(core.on(Input::StoreAnswered), [], "the store's answer makes nothing fresh");
}

#[test]
fn while_stale_every_answer_of_the_store_keeps_the_set_fresh() {
    let mut core = live(STREAM);
    assert_eq!(core.on(Input::StoreAnswered), []);
    assert_eq!(core.on(Input::StoreSilent), [], "the loss of the store costs nothing");
    assert!(core.is_live());
    core.on(Input::Lost);
    assert_eq!(core.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(core.on(Input::StoreSilent), []);
    core.on(Input::ConnectDue);
    assert_eq!(core.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
}

#[test]
fn with_the_store_alone_its_answers_decide() {
    let mut core = Core::new(STORE_ALONE);
    let begin = [Output::Say(Say::Init), FIRST_SNAPSHOT];
    assert_eq!(core.on(Input::Start), begin);
    assert_eq!(core.on(Input::SnapshotFailed), [Output::Say(Say::Lost(Cause::Store)), RETRY]);
    assert_eq!(core.on(Input::StoreAnswered), []);
    assert_eq!(core.on(Input::SnapshotDue), begin);
    assert_eq!(said(&core.on(Input::SnapshotDone)), [Say::Replay, Say::InitDone]);
    assert_eq!(core.on(Input::StoreSilent), [Output::Say(Say::Lost(Cause::Store))]);
    assert_eq!(core.on(Input::StoreSilent), []);
    assert_eq!(said(&core.on(Input::StoreAnswered)), [Say::Init, Say::InitDone]);
    assert!(core.is_live());
    assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
}

#[test]
fn what_belongs_to_a_connection_that_is_gone_changes_nothing() {
    let mut core = live(STREAM);
    core.on(Input::Lost);
    let before = core.clone();
    for late in [
        Input::Bound,
        delivered(11),
        own_probe(11, 9),
        Input::ProbeDue,
        Input::Lost,
        Input::Late,
        Input::Paused,
    ] {
        assert_eq!(core.on(late), [], "{late:?}");
    }
    assert_eq!(core, before);
}
