//! Exploration of every order in which a few things can happen: a broker that deletes, trims and
//! forgets, removals that arrive late and twice, a process that stands still, and a store that is read
//! while it changes. No revocation is missed by a set that is called complete, no check of a token
//! whose revocation was waited for passes, and whatever only the store knows is going to be read.

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
    /// The store is read when a connection is made, and never again.
    ReadOnce,
    /// A removal removes, whatever the store holds.
    BelieveRemovals,
    /// The set is believed however long the process stood still.
    NoLease,
    /// The lease is renewed after the process stood still, whatever has yet to be delivered.
    RenewAtOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Revocation(u8),
    Removal(u8),
    Probe(u64),
}

/// Whether the process stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pausing {
    No,
    Still,
    /// It goes on, and readers do; that it stood still is not noticed yet.
    Woken,
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
    /// What was stored when the reading that is under way began.
    snapshot: Option<Set>,
    snapshot_due: bool,
    /// What the replica knows.
    known: Set,
    /// What removals are about that were delivered and have yet to be asked about.
    removals: Set,
    pause: Pausing,
    /// Whether readers may believe the set.
    leased: bool,
    /// Of which a publisher was told that they are in force.
    waited: Set,
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
    Unrevoke,
    RevokeAgain,
    Repeat,
    Ask,
    Pause,
    Resume,
    Notice,
    Wait,
}

const STEPS: [Step; 25] = [
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
    Step::Unrevoke,
    Step::RevokeAgain,
    Step::Repeat,
    Step::Ask,
    Step::Pause,
    Step::Resume,
    Step::Notice,
    Step::Wait,
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
            snapshot_due: false,
            known: 0,
            removals: 0,
            pause: Pausing::No,
            leased: false,
            waited: 0,
            violated: false,
        };
        world.tell(Input::Start, sabotage);
        world
    }

    /// The world after a step, if it can be taken.
    #[expect(clippy::too_many_lines, reason = "one arm for each step")]
    fn step(&self, step: Step, sabotage: Sabotage) -> Option<Self> {
        let goes_on = match self.pause {
            Pausing::No => true,
            Pausing::Still => step.happens_elsewhere(),
            Pausing::Woken => step == Step::Notice,
        };
        if !goes_on {
            return None;
        }
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
                next.known |= next.snapshot.take()?;
                Some(Input::SnapshotDone)
            }
            Step::SnapshotFailed => {
                spend(&mut next.budget.fail)?;
                next.snapshot.take()?;
                Some(Input::SnapshotFailed)
            }
            Step::SnapshotDue => {
                // A reading that finds nothing tells no worlds apart.
                let finds_nothing = next.core.is_live() && next.stored & !next.known == 0;
                if finds_nothing || !std::mem::take(&mut next.snapshot_due) {
                    return None;
                }
                Some(Input::SnapshotDue)
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
            Step::Unrevoke | Step::RevokeAgain | Step::Repeat => {
                spend(&mut next.budget.change)?;
                next.change(step)?;
                None
            }
            Step::Ask => {
                next.known &= !(std::mem::take(&mut next.removals) & !next.stored);
                None
            }
            Step::Pause => {
                spend(&mut next.budget.pause)?;
                next.pause = Pausing::Still;
                next.leased &= sabotage == Sabotage::NoLease;
                None
            }
            Step::Resume => {
                (next.pause == Pausing::Still).then_some(())?;
                next.pause = Pausing::Woken;
                None
            }
            Step::Notice => {
                (next.pause == Pausing::Woken).then_some(())?;
                next.pause = Pausing::No;
                if sabotage == Sabotage::RenewAtOnce {
                    next.leased = next.core.is_live();
                    None
                } else {
                    Some(Input::Paused)
                }
            }
            Step::Wait => {
                spend(&mut next.budget.wait)?;
                // A replica that is silent is not waited for. One that is not has confirmed.
                let silent = next.pause == Pausing::Still;
                let confirmed = if silent { next.stored & !next.forgotten } else { next.known };
                next.waited |= next.stored & confirmed;
                None
            }
        };
        match input {
            Some(input) => next.tell(input, sabotage),
            None if next == *self => return None,
            None => {}
        }
        next.check();
        Some(next)
    }

    /// What a check gets: a token that the set does not know passes while the set is believed, and
    /// the store is asked otherwise.
    fn check(&mut self) {
        let believed = self.core.is_live() && self.leased && self.pause != Pausing::Still;
        self.violated |= believed && self.waited & self.stored & !self.known != 0;
    }

    /// The first revocation is taken back, made again, or taken back by a message that was sent before.
    fn change(&mut self, step: Step) -> Option<()> {
        let stream = self.stream.as_mut().filter(|_| self.routed)?;
        let is_stored = self.stored & 1 != 0;
        let was_removed = stream.contains(&Some(Entry::Removal(0)));
        match step {
            Step::Unrevoke if is_stored => {
                self.stored &= !1;
                self.waited &= !1;
                stream.push(Some(Entry::Removal(0)));
            }
            Step::RevokeAgain if !is_stored && was_removed => {
                self.stored |= 1;
                stream.push(Some(Entry::Revocation(0)));
            }
            Step::Repeat if is_stored && was_removed => stream.push(Some(Entry::Removal(0))),
            _ => return None,
        }
        Some(())
    }

    fn start_snapshot(&mut self, sabotage: Sabotage) {
        self.snapshot = Some(if sabotage == Sabotage::SnapshotFirst { 0 } else { self.stored });
        self.snapshot_due = false;
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
                self.removals &= !(1 << id);
                None
            }
            Entry::Removal(id) if sabotage == Sabotage::BelieveRemovals => {
                self.known &= !(1 << id);
                None
            }
            Entry::Removal(id) => {
                self.removals |= 1 << id;
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
            Entry::Removal(id) => 50 + u64::from(id),
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
                Output::StartSnapshot(_) => self.start_snapshot(sabotage),
                Output::EnsureSnapshot(_) => {
                    if self.snapshot.is_none() && !self.snapshot_due {
                        self.start_snapshot(sabotage);
                    }
                }
                Output::ReadAgain(_) => self.snapshot_due = sabotage != Sabotage::ReadOnce,
                Output::Probe(number) => {
                    let reached = self.cursor.is_some() && self.routed;
                    // What a lost one would prove tells no worlds apart.
                    self.stored_at_probe.push(if reached { self.stored } else { 0 });
                    if let Some(stream) = self.stream.as_mut().filter(|_| reached) {
                        stream.push(Some(Entry::Probe(number)));
                    }
                }
                Output::Say(Say::InitDone) => {
                    self.leased = true;
                    // What was confirmed and kept nowhere is found by the next reading.
                    self.violated |= proven & self.stored & !self.known & !self.forgotten != 0;
                }
                Output::Say(_) => {}
            }
        }
    }
}

impl Step {
    /// Whether it happens although the replica stands still. What is lost then is noticed later, and
    /// the same as what is lost later.
    const fn happens_elsewhere(self) -> bool {
        matches!(
            self,
            Self::Publish
                | Self::Unrevoke
                | Self::RevokeAgain
                | Self::Repeat
                | Self::Wait
                | Self::Resume
        )
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
        // Once live, with everything delivered and asked about, the set is whole, but for what was
        // kept nowhere.
        let drained = world
            .cursor
            .zip(world.stream.as_ref())
            .is_some_and(|(cursor, stream)| cursor == stream.len());
        let settled = world.core.is_live() && drained && world.pause == Pausing::No;
        let missed = settled && world.stored & !world.known & !world.forgotten != 0;
        let will_read = world.snapshot.is_some() || world.snapshot_due;
        let forgot_to_read = world.core.is_live() && !will_read;
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
        println!("{budget:?}: {worlds} worlds, {live} of them live");
        assert!(live > 10, "{rules:?}: {live} of {worlds} are live");
    }
}

#[test]
fn in_no_order_of_events_is_a_revocation_missed() {
    misses_nothing(Budget::USUAL);
}

#[test]
fn nor_is_one_where_the_connection_is_lost_more_often() {
    misses_nothing(Budget { publish: 1, lose: 2, delete: 1, ..Budget::NOTHING });
}

#[test]
fn nor_is_one_where_the_broker_keeps_nothing_of_what_it_confirms() {
    misses_nothing(Budget {
        publish: 1,
        forget: 1,
        lose: 1,
        fail: 1,
        detour: 1,
        ..Budget::NOTHING
    });
}

#[test]
fn nor_is_one_where_the_broker_delivers_late() {
    misses_nothing(Budget { publish: 1, lose: 1, quiet: 1, late: 2, ..Budget::NOTHING });
}

#[test]
fn nor_is_one_that_is_taken_back_and_made_again() {
    misses_nothing(Budget { publish: 1, change: 4, ..Budget::NOTHING });
}

#[test]
fn nor_does_a_token_pass_after_the_wait_for_its_revocation() {
    misses_nothing(Budget { publish: 2, pause: 2, wait: 2, ..Budget::NOTHING });
}

#[test]
fn a_source_that_is_broken_on_purpose_is_found_out() {
    let believing = Budget { publish: 1, lose: 1, delete: 1, fail: 1, quiet: 2, ..Budget::NOTHING };
    let changes = Budget { publish: 1, change: 4, ..Budget::NOTHING };
    let pauses = Budget { publish: 1, pause: 1, wait: 1, ..Budget::NOTHING };
    for (sabotage, budget) in [
        (Sabotage::BelieveTheStream, believing),
        (Sabotage::SnapshotFirst, believing),
        (Sabotage::ReadOnce, pauses),
        (Sabotage::BelieveRemovals, changes),
        (Sabotage::NoLease, pauses),
        (Sabotage::RenewAtOnce, pauses),
    ] {
        assert_eq!(explore(STREAM, budget, Sabotage::None).2, None, "{budget:?}");
        let (_, _, missed) = explore(STREAM, budget, sabotage);
        assert!(missed.is_some(), "{sabotage:?}");
    }
}
