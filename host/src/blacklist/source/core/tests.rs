//! What the source does when, one sentence for each rule.

use super::*;

const STREAM: Rules =
    Rules { broker: true, resumes: true, serves_unbound: true, reads_store: true, holes: 0 };

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

/// What is done when a connection is there that must be followed by a snapshot.
fn begin(first_probe: u64, snapshot: Output) -> [Output; 3] {
    [Output::Probe(first_probe), Output::Say(Say::Init), snapshot]
}

/// What is read before the set is complete for the first time, and later.
const FIRST_SNAPSHOT: Output = Output::StartSnapshot(Reading::TokenIds);
const SNAPSHOT: Output = Output::StartSnapshot(Reading::Terms);

/// What is done when it is live, and the store is to be read a second time.
const LIVE: [Output; 2] = [Output::Say(Say::InitDone), Output::PauseSecondReading];

/// A source that has gone through all of this.
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
    assert_eq!(core.on(Input::SnapshotDone), []);
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

fn said(outputs: &[Output]) -> Vec<Say> {
    let said = |output: &Output| match output {
        Output::Say(say) => Some(*say),
        _ => None,
    };
    outputs.iter().filter_map(said).collect()
}

#[test]
fn what_arrives_late_is_not_current_until_a_probe_is_quick_again() {
    let mut core = live(STREAM);
    let outputs = core.on(Input::Late);
    assert_eq!(said(&outputs), [Say::Lost(Cause::Late), Say::Init, Say::Replay]);
    assert_eq!(outputs.last(), Some(&Output::Probe(3)));
    assert!(core.awaits_probe() && !core.is_live());
    assert_eq!(core.on(Input::Late), [], "that is known");
    assert_eq!(core.on(delivered(11)), []);
    assert_eq!(core.on(own_probe(12, 2)), [], "one that was sent before");
    assert_eq!(core.on(late_probe(13, 3)), [], "one that took too long");
    assert_eq!(core.on(own_probe(14, 4)), [Output::Say(Say::InitDone)]);
    assert!(core.is_live());
}

#[test]
fn the_queue_is_bound_before_the_snapshot_is_read() {
    let mut core = Core::new(STREAM);
    assert_eq!(core.on(Input::Start), [Output::Connect(Position::Replay)]);
    assert_eq!(core.on(Input::Bound), begin(1, FIRST_SNAPSHOT));
}

#[test]
fn the_set_is_complete_when_a_probe_sent_after_the_snapshot_comes_back() {
    let mut core = after(STREAM, &[Input::Start, Input::Bound]);
    assert_eq!(core.on(late_probe(5, 1)), [], "one that was sent before the snapshot was complete");
    assert_eq!(core.on(Input::SnapshotDone), [Output::Say(Say::Replay), Output::Probe(2)]);
    assert_eq!(core.on(delivered(6)), []);
    assert_eq!(core.on(own_probe(7, 1)), []);
    assert!(core.awaits_probe() && !core.is_live());
    assert_eq!(core.on(own_probe(8, 2)), LIVE);
    assert!(core.is_live());
}

#[test]
fn a_probe_that_got_lost_is_made_good_by_the_next() {
    let inputs = [Input::Start, Input::Bound, own_probe(0, 1), Input::SnapshotDone];
    let mut core = after(STREAM, &inputs);
    assert_eq!(core.on(Input::ProbeDue), [Output::Probe(3)]);
    assert_eq!(core.on(own_probe(1, 3)), LIVE);
}

#[test]
fn a_snapshot_that_was_begun_while_nothing_reached_the_queue_is_begun_anew() {
    let again = |snapshot| [Output::Say(Say::Init), snapshot];
    let stopped = |snapshot| [&[Output::StopSnapshot], &again(snapshot)[..]].concat();
    let mut core = after(STREAM, &[Input::Start, Input::Bound]);
    assert!(core.awaits_probe());
    assert_eq!(core.on(Input::ProbeDue), [Output::Probe(2)]);
    assert_eq!(core.on(delivered(0)), []);
    assert_eq!(core.on(own_probe(1, 2)), stopped(FIRST_SNAPSHOT), "the first one is lost");
    assert!(!core.awaits_probe());
    assert_eq!(core.on(own_probe(2, 3)), [], "once");
    core.on(Input::SnapshotDone);
    assert_eq!(core.on(own_probe(3, 4)), LIVE);

    let mut core = after(STREAM, &[Input::Start, Input::Bound, Input::SnapshotDone]);
    assert_eq!(core.on(own_probe(1, 2)), again(SNAPSHOT), "it had been read already");

    let mut core = reconnecting();
    core.on(Input::Bound);
    core.on(delivered(10));
    core.on(Input::ProbeDue);
    assert_eq!(core.on(own_probe(11, 4)), stopped(SNAPSHOT));

    let mut core = reconnecting();
    core.on(Input::Bound);
    core.on(delivered(10));
    core.on(Input::SnapshotFailed);
    core.on(Input::ProbeDue);
    assert_eq!(core.on(own_probe(11, 4)), stopped(SNAPSHOT), "it may be under way again");
    assert_eq!(core.on(Input::SnapshotFailed), [Output::PauseSnapshot]);
    assert!(!core.is_live(), "something may be missing");
}

#[test]
fn a_snapshot_that_fails_is_read_again_and_nothing_is_complete_before() {
    let mut core = after(STREAM, &[Input::Start, Input::Bound]);
    for _ in 0..3 {
        assert_eq!(core.on(Input::SnapshotFailed), [Output::PauseSnapshot]);
        assert_eq!(core.on(Input::SnapshotDue), [FIRST_SNAPSHOT]);
        assert_eq!(core.on(own_probe(1, 1)), []);
    }
    core.on(Input::SnapshotDone);
    assert_eq!(core.on(own_probe(2, 2)), LIVE);
}

#[test]
fn a_lost_stream_is_read_on_from_the_last_message_and_the_store_is_read_as_well() {
    let mut core = live(STREAM);
    core.on(delivered(11));
    let lost = core.on(Input::Lost);
    assert_eq!(lost, [Output::Say(Say::Lost(Cause::Broker)), Output::Pause(Pause::Short)]);
    assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::At(mark(11)))]);
    assert_eq!(core.on(Input::Bound), [Output::Probe(3)]);
    assert!(core.has_seen(Some(mark(11))) && !core.has_seen(Some(mark(12))));
    let resumed = [Output::Say(Say::Init), Output::Say(Say::Replay), SNAPSHOT];
    assert_eq!(core.on(delivered(11)), resumed);
    assert_eq!(core.on(delivered(12)), []);
    assert_eq!(core.on(own_probe(13, 3)), []);
    assert_eq!(core.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(
        core.on(Input::SnapshotDone),
        LIVE,
        "what was confirmed and kept nowhere has been applied"
    );
}

#[test]
fn a_stream_that_is_lost_while_the_store_is_read_stops_the_reading_and_is_read_on() {
    let mut core = reconnecting();
    core.on(Input::Bound);
    core.on(delivered(10));
    assert_eq!(core.on(Input::Lost).first(), Some(&Output::StopSnapshot));
    assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::At(mark(10)))]);
}

#[test]
fn a_store_that_does_not_answer_holds_up_no_resumed_stream() {
    let mut core = reconnecting();
    core.on(Input::Bound);
    core.on(delivered(10));
    assert_eq!(core.on(Input::SnapshotFailed), [Output::PauseSnapshot]);
    assert_eq!(core.on(own_probe(11, 3)), [Output::Say(Say::InitDone)]);
    // It is read all the same, once it is back.
    for _ in 0..2 {
        assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
        assert_eq!(core.on(Input::SnapshotFailed), [Output::PauseSnapshot]);
    }
    core.on(Input::SnapshotDue);
    assert_eq!(core.on(Input::SnapshotDone), [Output::PauseSecondReading]);
    core.on(Input::SnapshotDue);
    assert_eq!(core.on(Input::SnapshotDone), []);
    assert_eq!(core.on(Input::SnapshotDue), [], "once");
    assert!(core.is_live());
}

#[test]
fn how_long_tokens_are_revoked_is_asked_once_the_set_is_live() {
    let mut core = after(STREAM, &[Input::Start, Input::Bound, own_probe(9, 1)]);
    core.on(Input::SnapshotDone);
    assert_eq!(core.on(own_probe(10, 2)), LIVE);
    assert_eq!(core.on(Input::Lost).first(), Some(&Output::StopSnapshot));
    core.on(Input::ConnectDue);
    core.on(Input::Bound);
    let resumed = core.on(delivered(10));
    assert_eq!(resumed.last(), Some(&SNAPSHOT), "the next connection asks at once");

    let rules = Rules { broker: false, resumes: false, ..STREAM };
    let mut core = after(rules, &[Input::Start]);
    let live = [&[Output::Say(Say::Replay)], &LIVE[..]].concat();
    assert_eq!(core.on(Input::SnapshotDone), live);
    core.on(Input::StoreSilent);
    assert_eq!(core.on(Input::SnapshotDue), [], "it would not answer");
    assert_eq!(core.on(Input::StoreAnswered), [&[Output::Say(Say::Init)], &LIVE[..]].concat());
    assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
    assert_eq!(core.on(Input::SnapshotFailed), [Output::PauseSnapshot]);
    assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
    assert_eq!(core.on(Input::SnapshotDone), []);
    assert_eq!(core.on(Input::SnapshotDue), [], "once");
}

#[test]
fn after_an_interruption_the_store_is_read_once_more_by_a_set_that_is_live() {
    let live_again = || {
        let mut core = reconnecting();
        core.on(Input::Bound);
        core.on(delivered(10));
        core.on(Input::SnapshotDone);
        assert_eq!(core.on(own_probe(11, 3)), LIVE);
        core
    };
    let mut core = live_again();
    assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
    assert_eq!(core.on(Input::SnapshotDone), []);
    assert_eq!(core.on(Input::SnapshotDue), [], "once");
    assert!(core.is_live());

    let mut core = live_again();
    assert_eq!(core.on(Input::Lost).first(), Some(&Output::StopSnapshot));
    assert_eq!(core.on(Input::SnapshotDue), [], "the next connection has its own");

    let mut core = live_again();
    core.on(Input::SnapshotDue);
    assert_eq!(core.on(Input::SnapshotFailed), [Output::PauseSnapshot]);
    assert_eq!(core.on(Input::SnapshotDue), [SNAPSHOT]);
    assert!(core.is_live());

    let keeps_nothing = Rules { reads_store: false, ..STREAM };
    let mut core = live(keeps_nothing);
    core.on(Input::Lost);
    core.on(Input::ConnectDue);
    core.on(Input::Bound);
    core.on(delivered(10));
    core.on(Input::SnapshotDone);
    assert_eq!(core.on(own_probe(11, 3)), [Output::Say(Say::InitDone)]);
}

#[test]
fn a_stream_that_does_not_go_on_where_we_stopped_needs_a_snapshot() {
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
        assert_eq!(core.on(Input::Bound), begin(4, SNAPSHOT));
        assert_eq!(core.on(own_probe(0, 3)), [], "one that was sent before");
        assert_eq!(core.on(own_probe(1, 4)), []);
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
    let mut core = after(STREAM, &[Input::Start, Input::Bound, delivered(3)]);
    let outputs = core.on(delivered(5));
    assert!(outputs.contains(&Output::StopSnapshot), "{outputs:?}");
}

#[test]
fn a_loss_before_the_snapshot_was_complete_begins_from_the_beginning() {
    let mut core = after(STREAM, &[Input::Start, Input::Bound, delivered(3)]);
    let outputs = core.on(Input::Lost);
    assert_eq!(outputs.first(), Some(&Output::StopSnapshot));
    assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
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
    core.on(Input::SnapshotDue);
    core.on(Input::SnapshotDone);
    let lost = core.on(Input::Lost);
    let spread = [Output::Say(Say::Lost(Cause::Broker)), Output::Pause(Pause::Spread)];
    assert_eq!(lost, spread, "not all replicas at once");
    assert_eq!(core.on(Input::ConnectDue), [Output::Connect(Position::Replay)]);
    assert_eq!(core.on(Input::Bound), begin(3, SNAPSHOT));
}

#[test]
fn without_the_broker_a_complete_set_serves_if_misses_are_looked_up() {
    let mut core = after(STREAM, &[Input::Start]);
    let lost = core.on(Input::Lost);
    assert_eq!(lost.last(), Some(&FIRST_SNAPSHOT));
    assert_eq!(core.on(Input::StoreAnswered), [], "nothing is complete yet");
    assert!(!core.on(Input::Lost).contains(&FIRST_SNAPSHOT), "one is under way");
    assert_eq!(core.on(Input::SnapshotDone), [Output::Say(Say::Unbound)]);
    assert_eq!(core.on(Input::StoreAnswered), [Output::Say(Say::Fresh)]);
    assert_eq!(core.on(Input::StoreSilent), []);
    core.on(Input::ConnectDue);
    assert_eq!(
        core.on(Input::Bound),
        begin(1, SNAPSHOT),
        "what was published between that snapshot and this is in neither"
    );
}

#[test]
fn a_snapshot_that_was_begun_without_the_broker_is_begun_anew_with_it() {
    let mut core = after(STREAM, &[Input::Start, Input::Lost, Input::ConnectDue]);
    let bound = [&[Output::StopSnapshot], &begin(1, FIRST_SNAPSHOT)[..]].concat();
    assert_eq!(core.on(Input::Bound), bound);
}

#[test]
fn without_the_broker_nothing_serves_if_misses_are_not_looked_up() {
    let rules = Rules { serves_unbound: false, ..STREAM };
    let mut core = after(rules, &[Input::Start]);
    assert!(!core.on(Input::Lost).contains(&FIRST_SNAPSHOT));
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
    let rules = Rules { broker: false, resumes: false, ..STREAM };
    let mut core = Core::new(rules);
    let begin = [Output::Say(Say::Init), FIRST_SNAPSHOT];
    assert_eq!(core.on(Input::Start), begin);
    assert_eq!(
        core.on(Input::SnapshotFailed),
        [Output::Say(Say::Lost(Cause::Store)), Output::PauseSnapshot]
    );
    assert_eq!(core.on(Input::StoreAnswered), []);
    assert_eq!(core.on(Input::SnapshotDue), begin);
    assert_eq!(said(&core.on(Input::SnapshotDone)), [Say::Replay, Say::InitDone]);
    assert_eq!(core.on(Input::StoreSilent), [Output::Say(Say::Lost(Cause::Store))]);
    assert_eq!(core.on(Input::StoreSilent), []);
    assert_eq!(said(&core.on(Input::StoreAnswered)), [Say::Init, Say::InitDone]);
    assert!(core.is_live());
}

#[test]
fn what_belongs_to_a_connection_that_is_gone_changes_nothing() {
    let mut core = live(STREAM);
    core.on(Input::Lost);
    let before = core.clone();
    for late in [Input::Bound, delivered(11), own_probe(11, 9), Input::ProbeDue, Input::Lost] {
        assert_eq!(core.on(late), [], "{late:?}");
    }
    assert_eq!(core, before);
}
