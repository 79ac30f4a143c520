//! Every order in which a few things can happen, with a broker that deletes, trims and forgets, and
//! a store that is read while it changes: no revocation is missed by a set that is called complete.

mod budget;

use std::collections::{HashSet, VecDeque};

use self::budget::Budget;
use super::*;

/// Which revocations: one bit for each.
type Set = u8;

/// What the world does wrong on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    /// Reading goes on wherever the stream happens to begin.
    BelieveTheStream,
    /// The snapshot is read before the queue is bound.
    SnapshotFirst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Revocation(u8),
    Probe(u64),
}

/// The broker, the store, and one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct World {
    core: Core,
    budget: Budget,
    /// The stream, if there is one; what was trimmed is `None`.
    stream: Option<Vec<Option<Entry>>>,
    /// How often it was made.
    generation: u64,
    /// Everything that was revoked.
    stored: Set,
    /// What the broker confirmed and kept nowhere.
    forgotten: Set,
    published: u8,
    /// Everything that had been revoked when each probe was sent.
    stored_at_probe: Vec<Set>,
    connecting: Option<Position>,
    pausing: bool,
    /// The place in the stream that is delivered next, while there is a session.
    cursor: Option<usize>,
    /// Whether what is published reaches the stream.
    routed: bool,
    /// What is read, and what was stored when that began: the least that it holds.
    snapshot: Option<(Reading, Set)>,
    snapshot_pausing: bool,
    /// What the replica knows.
    known: Set,
    /// Whether it has asked how long that is revoked.
    knows_terms: bool,
    violated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Publish,
    Forget,
    Route,
    Bind,
    Refuse,
    Deliver,
    Lose,
    ConnectDue,
    Delete,
    Trim,
    SnapshotDone,
    SnapshotFailed,
    SnapshotDue,
    Answer,
    Silence,
    ProbeDue,
    Late,
}

const STEPS: [Step; 17] = [
    Step::Publish,
    Step::Forget,
    Step::Route,
    Step::Bind,
    Step::Refuse,
    Step::Deliver,
    Step::Lose,
    Step::ConnectDue,
    Step::Delete,
    Step::Trim,
    Step::SnapshotDone,
    Step::SnapshotFailed,
    Step::SnapshotDue,
    Step::Answer,
    Step::Silence,
    Step::ProbeDue,
    Step::Late,
];

// === impl World ===

impl World {
    fn new(rules: Rules, budget: Budget, sabotage: Sabotage) -> Self {
        let mut world = Self {
            core: Core::new(rules),
            budget,
            stream: None,
            generation: 0,
            stored: 0,
            forgotten: 0,
            published: 0,
            stored_at_probe: vec![],
            connecting: None,
            pausing: false,
            cursor: None,
            routed: true,
            snapshot: None,
            snapshot_pausing: false,
            known: 0,
            knows_terms: false,
            violated: false,
        };
        world.tell(Input::Start, sabotage);
        world
    }

    /// The world after a step, if it can be taken.
    fn step(&self, step: Step, sabotage: Sabotage) -> Option<Self> {
        let mut next = self.clone();
        let spend = |left: &mut u8| left.checked_sub(1).map(|less| *left = less);
        let input = match step {
            Step::Publish => {
                spend(&mut next.budget.publish)?;
                next.publish()?;
                None
            }
            Step::Forget => {
                spend(&mut next.budget.forget)?;
                let second_began = next.core.is_live() && next.snapshot.is_some();
                let keeps = next.routed && (!next.core.owes_second_reading || second_began);
                if next.cursor.is_some() && keeps {
                    return None;
                }
                next.forgotten |= 1 << next.published;
                next.stored |= 1 << next.published;
                next.published += 1;
                None
            }
            Step::Route => {
                next.routed = true;
                None
            }
            Step::Bind => Some(next.bind()?),
            Step::Refuse => {
                spend(&mut next.budget.fail)?;
                next.connecting.take()?;
                Some(Input::Lost)
            }
            Step::Deliver => Some(next.deliver(sabotage)?),
            Step::Lose => {
                spend(&mut next.budget.lose)?;
                next.cursor.take()?;
                Some(Input::Lost)
            }
            Step::ConnectDue => std::mem::take(&mut next.pausing).then_some(Input::ConnectDue),
            Step::Delete => {
                spend(&mut next.budget.delete)?;
                next.stream.take()?;
                next.cursor.take().map(|_| Input::Lost)
            }
            Step::Trim => {
                spend(&mut next.budget.trim)?;
                let stream = next.stream.as_mut()?;
                // The last segment always stays.
                let (_, old) = stream.split_last_mut()?;
                // What is dropped is days old. Who is connected has long read it.
                if next.cursor.is_some_and(|cursor| cursor < old.len()) {
                    return None;
                }
                old.fill(None);
                None
            }
            Step::SnapshotDone => {
                let (reading, held) = next.snapshot.take()?;
                next.known |= held;
                next.knows_terms |= reading == Reading::Terms;
                Some(Input::SnapshotDone)
            }
            Step::SnapshotFailed => {
                spend(&mut next.budget.fail)?;
                next.snapshot.take()?;
                Some(Input::SnapshotFailed)
            }
            Step::SnapshotDue => {
                std::mem::take(&mut next.snapshot_pausing).then_some(Input::SnapshotDue)
            }
            Step::Answer => Some(Input::StoreAnswered),
            Step::Silence => Some(Input::StoreSilent),
            Step::ProbeDue => {
                spend(&mut next.budget.quiet)?;
                next.cursor.map(|_| Input::ProbeDue)
            }
            Step::Late => {
                spend(&mut next.budget.late)?;
                next.cursor.map(|_| Input::Late)
            }
        };
        match input {
            Some(input) => next.tell(input, sabotage),
            None if next == *self => return None,
            None => {}
        }
        Some(next)
    }

    fn publish(&mut self) -> Option<()> {
        if !self.routed {
            return None;
        }
        self.stored |= 1 << self.published;
        // Where no stream is bound, the broker throws it away.
        if let Some(stream) = &mut self.stream {
            stream.push(Some(Entry::Revocation(self.published)));
        }
        self.published += 1;
        Some(())
    }

    fn bind(&mut self) -> Option<Input> {
        let position = self.connecting.take()?;
        let keeps = self.core.rules.resumes;
        if self.stream.is_none() || !keeps {
            self.stream = Some(vec![]);
            self.generation += 1;
        }
        let stream = self.stream.as_ref()?;
        let first = stream.iter().take_while(|entry| entry.is_none()).count();
        self.cursor = Some(match position {
            // As if nothing were replayed: that is for stores that lag behind.
            Position::Replay => stream.len(),
            // The broker silently takes what comes closest.
            Position::At(mark) => {
                usize::try_from(mark.offset).unwrap_or(usize::MAX).clamp(first, stream.len())
            }
        });
        self.routed = self.budget.detour == 0;
        self.budget.detour = self.budget.detour.saturating_sub(1);
        Some(Input::Bound)
    }

    fn deliver(&mut self, sabotage: Sabotage) -> Option<Input> {
        // What was trimmed is silently left out.
        let mut ahead = self.stream.as_ref()?.iter().enumerate().skip(self.cursor?);
        let (cursor, entry) = ahead.find_map(|(at, entry)| Some((at, (*entry)?)))?;
        self.cursor = Some(cursor + 1);
        let mut mark = self.core.rules.resumes.then(|| Mark {
            offset: u64::try_from(cursor).unwrap_or(u64::MAX),
            digest: self.digest(entry),
        });
        if sabotage == Sabotage::BelieveTheStream {
            if let Phase::Resuming { mark: expected, .. } = self.core.phase {
                mark = Some(expected);
            }
            self.core.last = None;
        }
        let probe = match entry {
            Entry::Revocation(id) => {
                self.known |= 1 << id;
                None
            }
            Entry::Probe(number) => Some(Returned { number, in_time: true }),
        };
        Some(Input::Delivered { mark, probe })
    }

    /// Everything that had been revoked when this probe was sent.
    fn stored_at(&self, probe: u64) -> Set {
        let place = usize::try_from(probe).ok().and_then(|number| number.checked_sub(1));
        place.and_then(|place| self.stored_at_probe.get(place)).copied().unwrap_or_default()
    }

    /// Messages hold something that no other message does.
    fn digest(&self, entry: Entry) -> u64 {
        let what = match entry {
            Entry::Revocation(id) => u64::from(id),
            Entry::Probe(number) => 100 + number,
        };
        what * 10 + self.generation
    }

    fn tell(&mut self, input: Input, sabotage: Sabotage) {
        let proven = match input {
            Input::Delivered { probe: Some(probe), .. } => self.stored_at(probe.number),
            _ => 0,
        };
        for output in self.core.on(input) {
            match output {
                Output::Connect(position) => {
                    self.connecting = Some(position);
                    if sabotage == Sabotage::SnapshotFirst {
                        self.known |= self.stored;
                    }
                }
                Output::Disconnect => self.cursor = None,
                Output::Pause(_) => self.pausing = true,
                Output::StartSnapshot(reading) => {
                    let held = if sabotage == Sabotage::SnapshotFirst { 0 } else { self.stored };
                    self.snapshot = Some((reading, held));
                }
                Output::StopSnapshot => {
                    self.snapshot = None;
                    self.snapshot_pausing = false;
                }
                Output::PauseSnapshot | Output::PauseSecondReading => self.snapshot_pausing = true,
                Output::Probe(number) => {
                    let reached = self.cursor.is_some() && self.routed;
                    // What a lost one would prove tells no worlds apart.
                    self.stored_at_probe.push(if reached { self.stored } else { 0 });
                    if let Some(stream) = self.stream.as_mut().filter(|_| reached) {
                        stream.push(Some(Entry::Probe(number)));
                    }
                }
                Output::Say(Say::InitDone) => {
                    // What only the store knows comes late where broker and store fail together, or
                    // the broker keeps some of what it confirms and not all.
                    let late = if self.core.owes_reading || self.core.owes_second_reading {
                        self.forgotten
                    } else {
                        0
                    };
                    self.violated |= proven & !self.known & !late != 0;
                }
                Output::Say(_) => {}
            }
        }
    }
}

/// Takes all steps in all orders. Returns how many worlds there are, how many of them are live, and
/// a way to one in which a revocation was missed.
fn explore(rules: Rules, budget: Budget, sabotage: Sabotage) -> (usize, usize, Option<Vec<Step>>) {
    let first = World::new(rules, budget, sabotage);
    let mut seen = HashSet::from([first.clone()]);
    let mut pending = VecDeque::from([(first, 0)]);
    // How each world was first come to: from which one, by which step.
    let mut ways = vec![(0, Step::Bind)];
    let mut live = 0;
    while let Some((world, at)) = pending.pop_front() {
        live += usize::from(world.core.is_live());
        // Once live, with all delivered and no reading owed, the set is whole, or the loss has yet to
        // be noticed.
        let drained = world
            .cursor
            .zip(world.stream.as_ref())
            .is_some_and(|(cursor, stream)| cursor == stream.len());
        let read = !world.core.owes_reading && !world.core.owes_another_reading();
        let settled = world.core.is_live() && drained && read;
        let missed = settled && (world.stored & !world.known != 0 || !world.knows_terms);
        let will_read = world.snapshot.is_some() || world.snapshot_pausing;
        let forgot_to_read = world.core.is_live() && !read && !will_read;
        if world.violated || missed || forgot_to_read {
            return (seen.len(), live, Some(way(&ways, at)));
        }
        for step in STEPS {
            if let Some(next) = world.step(step, sabotage)
                && seen.insert(next.clone())
            {
                pending.push_back((next, ways.len()));
                ways.push((at, step));
            }
        }
    }
    (seen.len(), live, None)
}

/// The steps from the first world to another one.
fn way(ways: &[(usize, Step)], mut to: usize) -> Vec<Step> {
    let mut steps = vec![];
    while to > 0 {
        let (from, step) = ways[to];
        steps.push(step);
        to = from;
    }
    steps.reverse();
    steps
}

const STREAM: Rules =
    Rules { broker: true, resumes: true, serves_unbound: true, reads_store: true, holes: 0 };

/// Explores both kinds of queue, with and without serving unbound.
fn misses_nothing(budget: Budget) {
    for (resumes, serves_unbound) in [(true, true), (true, false), (false, true), (false, false)] {
        let rules = Rules { resumes, serves_unbound, ..STREAM };
        let (worlds, live, missed) = explore(rules, budget, Sabotage::None);
        assert_eq!(missed, None, "{rules:?}");
        assert!(live > 100, "{rules:?}: {live} of {worlds} are live");
    }
}

#[test]
fn in_no_order_of_events_is_a_revocation_missed() {
    misses_nothing(Budget::USUAL);
}

#[test]
fn nor_is_one_where_the_connection_is_lost_more_often() {
    misses_nothing(Budget { publish: 1, lose: 2, fail: 0, ..Budget::USUAL });
}

#[test]
fn nor_is_one_where_the_stream_is_read_before_anything_reaches_it() {
    misses_nothing(Budget {
        publish: 1,
        forget: 1,
        lose: 1,
        quiet: 2,
        detour: 2,
        ..Budget::NOTHING
    });
}

#[test]
fn nor_is_one_where_the_broker_delivers_late() {
    misses_nothing(Budget { publish: 1, lose: 1, delete: 1, quiet: 1, late: 2, ..Budget::NOTHING });
}

#[test]
fn a_source_that_is_broken_on_purpose_is_found_out() {
    for sabotage in [Sabotage::BelieveTheStream, Sabotage::SnapshotFirst] {
        let (_, _, missed) = explore(STREAM, Budget::USUAL, sabotage);
        assert!(missed.is_some(), "{sabotage:?}");
    }
}
