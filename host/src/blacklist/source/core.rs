//! Owns what to do next: from what happens at the broker and at the store to what to do there, and
//! to what the feed may be told.
//!
//! Pure and without a clock, so that every order in which things can happen can be explored. The
//! promise it keeps: [`Say::InitDone`] is said only when everything that was published before has
//! been delivered, or was in a snapshot that began after the delivery did.

use super::{
    rules::Rules,
    steps::{Cause, Input, Mark, Output, Pause, Position, Returned, Say},
};
use crate::blacklist::redis::Reading;

/// Where things stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Core {
    rules: Rules,
    phase: Phase,
    /// The snapshot that is read while there is no broker.
    unbound: Unbound,
    /// Whether the store did not answer when the stream was read on, and has yet to be read.
    owes_reading: bool,
    /// Whether the feed has been told once that the set is complete.
    complete: bool,
    /// The message that was seen last.
    last: Option<Mark>,
    /// How many probes were sent.
    probes: u64,
    /// The first probe of this connection, sent before the snapshot began, until it has come back
    /// and shown that the queue gets what is published.
    first_probe: Option<u64>,
    /// Whether the store has to be read a second time after an interruption: for a while, a broker
    /// that comes back may keep what we send, and not what others do. It confirms both.
    owes_second_reading: bool,
    /// What the store has told, whatever became of the connection.
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Connecting(Position),
    Pausing(Position),
    /// Connected; the first message to arrive must be this one.
    Resuming {
        mark: Mark,
        probe: u64,
    },
    /// Connected; the snapshot is being read.
    Snapshot,
    /// Connected; the set is complete once this probe has come back and the store has been read.
    CatchingUp {
        probe: u64,
        seen: bool,
        read: bool,
    },
    Live,
    /// There is only the store, and it does not answer.
    StoreLost,
}

/// The first reading asks which tokens are revoked and not how long, because it takes half the time
/// and is all that it takes to deny them. Another one has to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Told {
    Nothing,
    TokenIds,
    Everything,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unbound {
    No,
    Reading,
    Done,
}

// === impl Core ===

impl Core {
    pub(super) const fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Idle,
            unbound: Unbound::No,
            owes_reading: false,
            complete: false,
            last: None,
            probes: 0,
            first_probe: None,
            owes_second_reading: false,
            told: if rules.reads_store { Told::Nothing } else { Told::Everything },
        }
    }

    /// Whether the feed has been told that the set is complete and current, and nothing since.
    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the stream is being read on, and the store is read beside it.
    pub(super) const fn is_resuming(&self) -> bool {
        matches!(self.phase, Phase::CatchingUp { read: false, .. })
    }

    /// Whether a probe of ours has to come back before the set counts as complete.
    pub(super) const fn awaits_probe(&self) -> bool {
        self.is_bound()
            && (self.first_probe.is_some()
                || matches!(
                    self.phase,
                    Phase::Resuming { .. } | Phase::CatchingUp { seen: false, .. }
                ))
    }

    /// Whether a message was seen before, unless the stream is another one.
    pub(super) fn has_seen(&self, mark: Option<Mark>) -> bool {
        mark.zip(self.last).is_some_and(|(mark, last)| mark.offset <= last.offset)
    }

    /// Takes notice of something, and says what to do, in this order.
    pub(super) fn on(&mut self, input: Input) -> Vec<Output> {
        match input {
            Input::Start => self.start(),
            Input::Bound => self.bound(),
            Input::Delivered { mark, probe } => self.delivered(mark, probe),
            Input::ProbeDue if self.is_bound() => vec![self.send_probe()],
            Input::Late if self.is_live() && self.rules.broker => self.late(),
            Input::Lost if self.rules.broker => self.lost(),
            Input::ConnectDue => match self.phase {
                Phase::Pausing(position) => {
                    self.phase = Phase::Connecting(position);
                    vec![Output::Connect(position)]
                }
                _ => vec![],
            },
            Input::SnapshotDone => self.snapshot_done(),
            Input::SnapshotFailed => self.snapshot_failed(),
            Input::SnapshotDue => self.snapshot_due(),
            Input::StoreAnswered => self.store_answered(),
            Input::StoreSilent => self.store_silent(),
            Input::ProbeDue | Input::Late | Input::Lost => vec![],
        }
    }

    fn start(&mut self) -> Vec<Output> {
        if self.rules.broker {
            self.phase = Phase::Connecting(Position::Replay);
            return vec![Output::Connect(Position::Replay)];
        }
        self.phase = Phase::Snapshot;
        vec![Output::Say(Say::Init), self.start_snapshot()]
    }

    fn bound(&mut self) -> Vec<Output> {
        match self.phase {
            Phase::Connecting(Position::At(mark)) => {
                let sent = self.send_first_probe();
                self.phase = Phase::Resuming { mark, probe: self.probes };
                vec![sent]
            }
            // One that began before this cannot be used: what was published after it was read and
            // before this is in neither.
            Phase::Connecting(Position::Replay) => {
                self.phase = Phase::Snapshot;
                self.last = None;
                let mut outputs = self.stop_unbound();
                outputs.extend([
                    self.send_first_probe(),
                    Output::Say(Say::Init),
                    self.start_snapshot(),
                ]);
                outputs
            }
            _ => vec![],
        }
    }

    fn delivered(&mut self, mark: Option<Mark>, probe: Option<Returned>) -> Vec<Output> {
        if !self.is_bound() {
            return vec![];
        }
        if let Phase::Resuming { mark: expected, probe } = self.phase {
            if mark != Some(expected) {
                return self.gap();
            }
            // What was published while the broker came back may be kept nowhere, so that only the
            // store knows of it; see `first_probe_lost`.
            self.phase = Phase::CatchingUp { probe, seen: false, read: false };
            let mut outputs = self.stop_unbound();
            outputs.extend([
                Output::Say(Say::Init),
                Output::Say(Say::Replay),
                self.start_snapshot(),
            ]);
            return outputs;
        }
        if let Some(mark) = mark {
            let next = |last: Mark| last.offset.saturating_add(1).saturating_add(self.rules.holes);
            if self.last.is_some_and(|last| mark.offset > next(last)) {
                return self.gap();
            }
            if self.last.is_none_or(|last| mark.offset > last.offset) {
                self.last = Some(mark);
            }
        }
        let Some(Returned { number, in_time }) = probe else { return vec![] };
        let first = self.first_probe.take_if(|first| *first <= number);
        if first.is_some_and(|first| first < number) {
            return self.first_probe_lost();
        }
        if let Phase::CatchingUp { probe: awaited, seen, .. } = &mut self.phase {
            *seen |= in_time && number >= *awaited;
        }
        self.live_if_complete()
    }

    /// A broker that comes back has its exchanges before its streams. What is published in between
    /// is confirmed and kept nowhere, and so was a probe. The snapshot was begun too early then: what
    /// was published while it was read may be in neither.
    fn first_probe_lost(&mut self) -> Vec<Output> {
        let mut outputs = self.stop_snapshot();
        self.owes_reading = false;
        self.phase = Phase::Snapshot;
        outputs.extend([Output::Say(Say::Init), self.start_snapshot()]);
        outputs
    }

    /// The stream does not go on where we stopped: only a snapshot can tell what was missed.
    fn gap(&mut self) -> Vec<Output> {
        let mut outputs = vec![Output::Disconnect];
        outputs.extend(self.stop_snapshot());
        self.last = None;
        outputs.extend(self.lose(Position::Replay, Cause::Gap));
        outputs
    }

    /// All will be delivered, but later than it may be: it counts as lost until a probe is quick again.
    fn late(&mut self) -> Vec<Output> {
        let sent = self.send_probe();
        self.phase = Phase::CatchingUp { probe: self.probes, seen: false, read: true };
        vec![
            Output::Say(Say::Lost(Cause::Late)),
            Output::Say(Say::Init),
            Output::Say(Say::Replay),
            sent,
        ]
    }

    fn lost(&mut self) -> Vec<Output> {
        match self.phase {
            Phase::Connecting(position) => self.lose(position, Cause::Broker),
            // A stream that was deleted and made again is shorter, and never delivers what stood at
            // the old place: whoever insisted on it would wait for ever.
            Phase::Resuming { .. } => self.lose(Position::Replay, Cause::Broker),
            Phase::Snapshot => {
                let mut outputs = self.stop_snapshot();
                outputs.extend(self.lose(Position::Replay, Cause::Broker));
                outputs
            }
            // The first snapshot is complete, and so is everything up to the last message.
            Phase::CatchingUp { .. } | Phase::Live => {
                let mut outputs = self.stop_snapshot();
                let resumed = self.last.filter(|_| self.rules.resumes).map(Position::At);
                outputs.extend(self.lose(resumed.unwrap_or(Position::Replay), Cause::Broker));
                outputs
            }
            Phase::Idle | Phase::Pausing(_) | Phase::StoreLost => vec![],
        }
    }

    fn lose(&mut self, next: Position, cause: Cause) -> Vec<Output> {
        self.phase = Phase::Pausing(next);
        self.owes_reading = false;
        let spread = next == Position::Replay && self.complete;
        let pause = if spread { Pause::Spread } else { Pause::Short };
        let mut outputs = vec![Output::Say(Say::Lost(cause)), Output::Pause(pause)];
        if self.rules.serves_unbound && !self.complete && self.unbound == Unbound::No {
            self.unbound = Unbound::Reading;
            outputs.push(self.start_snapshot());
        }
        outputs
    }

    fn snapshot_done(&mut self) -> Vec<Output> {
        self.told = match self.told {
            Told::Nothing => Told::TokenIds,
            Told::TokenIds | Told::Everything => Told::Everything,
        };
        if self.phase == Phase::Snapshot {
            let replay = Output::Say(Say::Replay);
            if self.rules.broker {
                let sent = self.send_probe();
                self.phase = Phase::CatchingUp { probe: self.probes, seen: false, read: true };
                return vec![replay, sent];
            }
            let mut outputs = vec![replay];
            outputs.extend(self.go_live());
            return outputs;
        }
        if self.unbound == Unbound::Reading {
            self.unbound = Unbound::Done;
            self.complete = true;
            return vec![Output::Say(Say::Unbound)];
        }
        let owed = std::mem::take(&mut self.owes_reading);
        if !self.is_live() {
            return self.store_was_read();
        }
        // One that was owed is the first.
        self.owes_second_reading &= owed;
        self.pause_second_reading()
    }

    fn snapshot_failed(&mut self) -> Vec<Output> {
        if self.phase == Phase::Snapshot && !self.rules.broker {
            return vec![Output::Say(Say::Lost(Cause::Store)), Output::PauseSnapshot];
        }
        if self.wants_snapshot() {
            return vec![Output::PauseSnapshot];
        }
        // A store that is away must not hold up a stream that most probably lacks nothing, but it is
        // read as soon as it is back.
        self.owes_reading = true;
        let mut outputs = self.store_was_read();
        outputs.push(Output::PauseSnapshot);
        outputs
    }

    fn snapshot_due(&mut self) -> Vec<Output> {
        if self.phase == Phase::Snapshot && !self.rules.broker {
            return vec![Output::Say(Say::Init), self.start_snapshot()];
        }
        if self.wants_snapshot() { vec![self.start_snapshot()] } else { vec![] }
    }

    fn store_answered(&mut self) -> Vec<Output> {
        if self.phase == Phase::StoreLost {
            let mut outputs = vec![Output::Say(Say::Init)];
            outputs.extend(self.go_live());
            return outputs;
        }
        let fresh = self.rules.serves_unbound && self.complete && !self.is_live();
        if fresh { vec![Output::Say(Say::Fresh)] } else { vec![] }
    }

    fn store_silent(&mut self) -> Vec<Output> {
        if self.is_live() && !self.rules.broker {
            self.phase = Phase::StoreLost;
            return vec![Output::Say(Say::Lost(Cause::Store))];
        }
        vec![]
    }

    fn store_was_read(&mut self) -> Vec<Output> {
        if let Phase::CatchingUp { read, .. } = &mut self.phase {
            *read = true;
        }
        self.live_if_complete()
    }

    fn live_if_complete(&mut self) -> Vec<Output> {
        if !matches!(self.phase, Phase::CatchingUp { seen: true, read: true, .. }) {
            return vec![];
        }
        // It may have begun before the broker came back.
        let mut outputs = self.stop_unbound();
        outputs.extend(self.go_live());
        outputs
    }

    fn go_live(&mut self) -> Vec<Output> {
        self.phase = Phase::Live;
        self.complete = true;
        let mut outputs = vec![Output::Say(Say::InitDone)];
        if !self.owes_reading {
            outputs.extend(self.pause_second_reading());
        }
        outputs
    }

    fn pause_second_reading(&self) -> Vec<Output> {
        if self.owes_another_reading() { vec![Output::PauseSecondReading] } else { vec![] }
    }

    fn owes_another_reading(&self) -> bool {
        self.owes_second_reading || self.told == Told::TokenIds
    }

    const fn start_snapshot(&self) -> Output {
        Output::StartSnapshot(match self.told {
            Told::Nothing => Reading::TokenIds,
            Told::TokenIds | Told::Everything => Reading::Terms,
        })
    }

    /// Stops reading the snapshot that the connection needs, if it is being read.
    fn stop_snapshot(&self) -> Vec<Output> {
        match self.phase {
            Phase::Snapshot | Phase::CatchingUp { read: false, .. } => vec![Output::StopSnapshot],
            _ if self.owes_reading => vec![Output::StopSnapshot],
            Phase::Live if self.owes_another_reading() => vec![Output::StopSnapshot],
            _ => vec![],
        }
    }

    fn stop_unbound(&mut self) -> Vec<Output> {
        match std::mem::replace(&mut self.unbound, Unbound::No) {
            Unbound::Reading => vec![Output::StopSnapshot],
            Unbound::No | Unbound::Done => vec![],
        }
    }

    const fn send_first_probe(&mut self) -> Output {
        self.owes_second_reading = self.complete && self.rules.reads_store;
        let sent = self.send_probe();
        self.first_probe = Some(self.probes);
        sent
    }

    const fn send_probe(&mut self) -> Output {
        self.probes += 1;
        Output::Probe(self.probes)
    }

    fn wants_snapshot(&self) -> bool {
        self.phase == Phase::Snapshot
            || self.unbound == Unbound::Reading
            || self.owes_reading
            || (self.is_live() && self.owes_another_reading())
    }

    const fn is_bound(&self) -> bool {
        self.rules.broker
            && matches!(
                self.phase,
                Phase::Resuming { .. } | Phase::Snapshot | Phase::CatchingUp { .. } | Phase::Live
            )
    }
}

#[cfg(test)]
mod explore;
#[cfg(test)]
mod tests;
