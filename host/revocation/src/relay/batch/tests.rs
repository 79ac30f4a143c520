//! Batches against a model of the outbox, and of a broker that rejects some entries.

use super::*;

/// An outbox, the oldest entry first, and a broker that loses the confirmations of a batch in which
/// it rejects an entry.
#[derive(Default)]
struct World {
    outbox: Vec<Vec<u8>>,
    published: Vec<Vec<u8>>,
    dead: Vec<Vec<u8>>,
    unknown: Vec<Vec<u8>>,
    attempts: usize,
}

/// How an entry ends that the broker rejects.
const POISON: &[u8] = b"\"poison\"}";

impl World {
    fn new(entries: impl IntoIterator<Item = String>) -> Self {
        let outbox = entries.into_iter().map(String::into_bytes).collect();
        Self { outbox, ..Self::default() }
    }

    /// What the broker confirms, and whether it rejects what follows.
    fn publish(&mut self, batch: &[Entry]) -> (usize, bool) {
        self.attempts += 1;
        let events = batch.iter().filter(|entry| entry.fate == Fate::Relayed);
        let events: Vec<_> = events.map(|entry| entry.body.clone()).collect();
        let rejected = events.iter().position(|body| body.ends_with(POISON));
        let stored = rejected.unwrap_or(events.len());
        self.published.extend_from_slice(&events[..stored]);
        if rejected.is_some() { (0, true) } else { (stored, false) }
    }

    fn step(&mut self, batcher: &mut RelayBatcher) {
        let count = batcher.count().min(self.outbox.len());
        let batch = batcher.begin(self.outbox[..count].to_vec());
        let (confirmed, is_rejected) = self.publish(&batch);
        let settled = batcher.settle(batch, confirmed, is_rejected);
        self.outbox.drain(..settled.len());
        batcher.removed(settled.len());
        for entry in settled {
            match entry.fate {
                Fate::Relayed => {}
                Fate::NoEvent | Fate::Rejected => self.dead.push(entry.body),
                Fate::UnknownType => self.unknown.push(entry.body),
            }
        }
    }

    fn run(&mut self) {
        let mut batcher = RelayBatcher::default();
        while !self.outbox.is_empty() {
            assert!(self.attempts < 10_000, "the relay makes no progress");
            self.step(&mut batcher);
        }
    }

    fn times_published(&self, entry: &str) -> usize {
        self.published.iter().filter(|body| *body == entry.as_bytes()).count()
    }
}

fn add(number: usize) -> String {
    format!(r#"{{"type": "add", "jti": "{number}"}}"#)
}

fn poison(number: usize) -> String {
    format!(r#"{{"type": "add", "jti": "{number}", "reason": "poison"}}"#)
}

fn begin(batcher: &mut RelayBatcher, entries: impl IntoIterator<Item = String>) -> Vec<Entry> {
    batcher.begin(entries.into_iter().map(String::into_bytes).collect())
}

#[test]
fn what_goes_well_is_published_once_in_whole_batches() {
    let mut world = World::new((0..1_000).map(add));
    world.run();
    assert_eq!(world.attempts, 1_000_usize.div_ceil(BATCH));
    assert_eq!(world.published, World::new((0..1_000).map(add)).outbox);
}

#[test]
fn a_rejected_entry_becomes_a_dead_letter_and_blocks_nothing() {
    let entries = (0..200).map(add).chain([poison(200)]).chain((201..1_000).map(add));
    let mut world = World::new(entries);
    world.run();
    assert_eq!(world.dead, [poison(200).into_bytes()]);
    for number in 0..200 {
        // In the batch whose confirmations were lost, and alone.
        assert_eq!(world.times_published(&add(number)), 2, "{number}");
    }
    for number in 201..1_000 {
        assert_eq!(world.times_published(&add(number)), 1, "{number}");
    }
}

#[test]
fn each_of_several_rejected_entries_is_tried_alone_twice() {
    let mut world = World::new([poison(0), poison(1), add(2), poison(3)]);
    world.run();
    assert_eq!(world.dead, [0, 1, 3].map(|number| poison(number).into_bytes()));
    assert_eq!(world.times_published(&add(2)), 1);
    // The batch, each rejected entry twice, and the good one.
    assert_eq!(world.attempts, 8);
}

#[test]
fn what_was_confirmed_before_a_failure_leaves_the_outbox() {
    let mut batcher = RelayBatcher::default();
    let batch = begin(&mut batcher, (0..10).map(add));
    assert_eq!(batcher.settle(batch, 4, false).len(), 4);
    batcher.removed(4);
    // The other six are sent one by one, and then whole batches again.
    for number in 4..10 {
        assert_eq!(batcher.count(), 1);
        let batch = begin(&mut batcher, [add(number)]);
        let settled = batcher.settle(batch, 1, false);
        batcher.removed(settled.len());
    }
    assert_eq!(batcher.count(), BATCH);
}

#[test]
fn what_is_not_removed_after_it_was_published_is_sent_one_by_one() {
    let mut batcher = RelayBatcher::default();
    let batch = begin(&mut batcher, (0..BATCH).map(add));
    assert_eq!(batcher.settle(batch, BATCH, false).len(), BATCH);
    // The store has not confirmed that they are removed.
    assert_eq!(batcher.count(), 1);
}

#[test]
fn a_failure_that_is_no_rejection_makes_no_dead_letter() {
    let mut batcher = RelayBatcher::default();
    for _ in 0..10 {
        let batch = begin(&mut batcher, [add(0)]);
        assert!(batcher.settle(batch, 0, false).is_empty());
        assert_eq!(batcher.count(), 1);
    }
}

#[test]
fn two_rejections_of_different_entries_make_no_dead_letter() {
    let mut batcher = RelayBatcher::default();
    for number in [0, 1, 0] {
        let batch = begin(&mut batcher, [poison(number)]);
        assert!(batcher.settle(batch, 0, true).is_empty());
    }
    let batch = begin(&mut batcher, [poison(0)]);
    assert_eq!(batcher.settle(batch, 0, true)[0].fate, Fate::Rejected);
}

#[test]
fn malformed_and_unknown_entries_are_not_published() {
    let entries = ["{bad json", r#"{"jti": "j"}"#, "[]", r#"{"type": "x"}"#, ""];
    let mut world = World::new(entries.map(str::to_owned));
    world.run();
    assert_eq!(world.published, [entries[1].as_bytes()]);
    assert_eq!(world.dead, [entries[0], entries[2], entries[4]].map(str::as_bytes));
    assert_eq!(world.unknown, [entries[3].as_bytes()]);
    assert_eq!(world.attempts, 1);
}

#[test]
fn an_event_of_a_known_type_that_is_malformed_is_known() {
    for body in [r#"{"type": "remove", "jti": "j"}"#, r#"{"type": "lift"}"#, "{bad json"] {
        assert!(is_known(body.as_bytes()), "{body}");
    }
    assert!(!is_known(br#"{"type": "x", "jti": "j"}"#));
}
