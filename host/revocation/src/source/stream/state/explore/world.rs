//! The world of the exploration: a broker, a store, one replica, and what can happen next.

use super::{
    super::*,
    budget::Budget,
    steps::{Sabotage, Step},
};

/// Which revocations: one bit for each.
type Set = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Revocation(u8),
    Unrevocation(u8),
    Probe(u64),
}

/// Whether the process is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pausing {
    No,
    Still,
    /// It goes on, and readers do; the pause is not noticed yet.
    Woken,
}

/// The broker, the store, and one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact")]
pub(super) struct World {
    state: SyncState,
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
    /// Whether readers may trust the set.
    leased: bool,
    /// Those that were acknowledged to a publisher as applied.
    waited: Set,
    violated: bool,
}

// === impl World ===

impl World {
    pub(super) fn new(rules: Rules, budget: Budget, sabotage: Sabotage) -> Self {
        let mut world = Self {
            state: SyncState::new(rules),
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

    pub(super) fn is_live(&self) -> bool {
        self.state.is_live()
    }

    /// Whether a promise is broken.
    ///
    /// Once live, with everything delivered and asked about, the set is whole, but for what was
    /// kept nowhere; and the store is going to be read.
    pub(super) fn is_wrong(&self) -> bool {
        let stream = self.stream.as_ref();
        let drained =
            self.cursor.is_some_and(|cursor| stream.is_some_and(|all| cursor == all.len()));
        let settled = self.is_live() && drained && self.pause == Pausing::No;
        let missed = settled && self.stored & !self.known & !self.forgotten != 0;
        let will_read = self.snapshot.is_some() || self.snapshot_due;
        self.violated || missed || (self.is_live() && !will_read)
    }

    /// The world after a step, if it can be taken.
    #[expect(clippy::too_many_lines, reason = "one arm for each step")]
    pub(super) fn step(&self, step: Step, sabotage: Sabotage) -> Option<Self> {
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
                // What is dropped is days old. A connected replica has long read it.
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
                // A reading that finds nothing does not distinguish worlds.
                let finds_nothing = next.state.is_live() && next.stored & !next.known == 0;
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
            Step::Blocked => {
                spend(&mut next.budget.late)?;
                next.cursor.map(|_| Input::Blocked)
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
                    next.leased = next.state.is_live();
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

    /// What a check gets: a token that the set does not know passes while the set is trusted, and
    /// the store is asked otherwise.
    fn check(&mut self) {
        let trusted = self.state.is_live() && self.leased && self.pause != Pausing::Still;
        self.violated |= trusted && self.waited & self.stored & !self.known != 0;
    }

    /// The first revocation is taken back, made again, or taken back by a message that was sent
    /// before.
    fn change(&mut self, step: Step) -> Option<()> {
        let stream = self.stream.as_mut().filter(|_| self.routed)?;
        let is_stored = self.stored & 1 != 0;
        let was_removed = stream.contains(&Some(Entry::Unrevocation(0)));
        match step {
            Step::Unrevoke if is_stored => {
                self.stored &= !1;
                self.waited &= !1;
                stream.push(Some(Entry::Unrevocation(0)));
            }
            Step::RevokeAgain if !is_stored && was_removed => {
                self.stored |= 1;
                stream.push(Some(Entry::Revocation(0)));
            }
            Step::Repeat if is_stored && was_removed => stream.push(Some(Entry::Unrevocation(0))),
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
        let keeps = self.state.rules.resumes;
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
        let mut mark = self.state.rules.resumes.then(|| Mark {
            offset: u64::try_from(cursor).unwrap_or(u64::MAX),
            digest: self.digest(entry),
        });
        if sabotage == Sabotage::BelieveTheStream {
            if let SyncPhase::Resuming { mark: expected, .. } = self.state.phase {
                mark = Some(expected);
            }
            self.state.last = None;
        }
        let probe = match entry {
            Entry::Revocation(id) => {
                self.known |= 1 << id;
                self.removals &= !(1 << id);
                None
            }
            Entry::Unrevocation(id) if sabotage == Sabotage::TrustUnrevocations => {
                self.known &= !(1 << id);
                None
            }
            Entry::Unrevocation(id) => {
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
            Entry::Unrevocation(id) => 50 + u64::from(id),
            Entry::Probe(number) => 100 + number,
        };
        what * 10 + self.generation
    }

    fn tell(&mut self, input: Input, sabotage: Sabotage) {
        let proven = match input {
            Input::Delivered { probe: Some(probe), .. } => self.stored_at(probe.number),
            _ => 0,
        };
        for output in self.state.on(input) {
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
                    // What a lost one would prove does not distinguish worlds.
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
                // Answers of the store are steps of their own.
                Output::ReadOutbox | Output::Say(_) => {}
            }
        }
    }
}
