//! The synchronisation state machine of the source: from what happens at the broker and at the store
//! to what to do there, and to what the feed may be told.
//!
//! It is sans-IO and has no clock, so that every order in which things can happen can be explored.
//! The promise it keeps: [`Say::InitDone`] is said only when everything that was published before has
//! been delivered, or was in a snapshot that began after the delivery did. Whatever else is missed,
//! the next reading of the store finds: there always is one under way or due.

use super::{
    rules::Rules,
    steps::{Again, Cause, Input, Mark, Output, Pause, Position, Returned, Say},
};
use crate::blacklist::redis::Reading;

/// Where things stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Core {
    rules: Rules,
    phase: Phase,
    /// Whether the feed has been told once that the set is complete.
    complete: bool,
    /// The message that was seen last.
    last: Option<Mark>,
    /// How many probes were sent.
    probes: u64,
    /// Whether the next reading of the store is followed by another one soon: after an interruption
    /// the broker may have kept nothing of what it confirmed, and a first reading asks for no expiries.
    reads_soon: bool,
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
    /// Connected; a probe has yet to show that what is published reaches the queue.
    Probing {
        probe: u64,
        resumed: bool,
    },
    /// Connected; the store is being read, or will be soon.
    Snapshot {
        resumed: bool,
    },
    /// Connected; the set is complete once this probe has come back.
    CatchingUp {
        probe: u64,
    },
    Live,
    /// There is only the store, and it does not answer.
    StoreLost,
}

// === impl Core ===

impl Core {
    pub(super) const fn new(rules: Rules) -> Self {
        Self { rules, phase: Phase::Idle, complete: false, last: None, probes: 0, reads_soon: true }
    }

    /// Whether the feed has been told that the set is complete and current, and nothing since.
    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the stream was resumed, and the store is read beside it.
    pub(super) const fn is_resuming(&self) -> bool {
        matches!(self.phase, Phase::Snapshot { resumed: true })
    }

    /// Whether a probe of ours has to come back before anything else happens.
    pub(super) const fn awaits_probe(&self) -> bool {
        self.rules.broker
            && matches!(
                self.phase,
                Phase::Resuming { .. } | Phase::Probing { .. } | Phase::CatchingUp { .. }
            )
    }

    /// Whether a message was seen before, unless the stream is another one.
    pub(super) fn has_seen(&self, mark: Option<Mark>) -> bool {
        mark.zip(self.last).is_some_and(|(mark, last)| mark.offset <= last.offset)
    }

    /// Handles an input, and says what to do, in this order.
    pub(super) fn on(&mut self, input: Input) -> Vec<Output> {
        match input {
            Input::Start => self.start(),
            Input::Bound => self.bound(),
            Input::Delivered { mark, probe } => self.delivered(mark, probe),
            Input::ProbeDue if self.is_bound() => vec![self.send_probe()],
            Input::Late if self.is_live() && self.rules.broker => self.doubt(Cause::Late),
            Input::Paused if self.rules.broker => self.paused(),
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
            Input::ProbeDue | Input::Late | Input::Paused | Input::Lost => vec![],
        }
    }

    fn start(&mut self) -> Vec<Output> {
        if self.rules.broker {
            self.phase = Phase::Connecting(Position::Replay);
            return vec![Output::Connect(Position::Replay)];
        }
        self.phase = Phase::Snapshot { resumed: false };
        vec![Output::Say(Say::Init), self.start_snapshot()]
    }

    fn bound(&mut self) -> Vec<Output> {
        let Phase::Connecting(position) = self.phase else { return vec![] };
        self.reads_soon = true;
        let sent = self.send_probe();
        let probe = self.probes;
        match position {
            Position::At(mark) => {
                self.phase = Phase::Resuming { mark, probe };
                vec![sent]
            }
            Position::Replay => {
                self.phase = Phase::Probing { probe, resumed: false };
                self.last = None;
                vec![sent, Output::Say(Say::Init)]
            }
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
            self.phase = Phase::Probing { probe, resumed: true };
            return vec![Output::Say(Say::Init), Output::Say(Say::Replay)];
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
        match probe {
            Some(probe) => self.probe_returned(probe),
            None => vec![],
        }
    }

    fn probe_returned(&mut self, Returned { number, in_time }: Returned) -> Vec<Output> {
        match self.phase {
            // A broker that comes back has its exchanges before its streams. What is published in
            // between is confirmed and kept nowhere. So the store is read once a probe was kept.
            Phase::Probing { probe, resumed } if number >= probe => {
                self.phase = Phase::Snapshot { resumed };
                vec![self.start_snapshot()]
            }
            Phase::CatchingUp { probe } if in_time && number >= probe => self.go_live(),
            _ => vec![],
        }
    }

    /// The stream does not go on where it was left: only a snapshot can tell what was missed.
    fn gap(&mut self) -> Vec<Output> {
        self.last = None;
        let mut outputs = vec![Output::Disconnect];
        outputs.extend(self.lose(Position::Replay, Cause::Gap));
        outputs
    }

    /// Everything will be delivered, but it may be later than it may be: the set counts as lost until
    /// a probe is quick.
    fn doubt(&mut self, cause: Cause) -> Vec<Output> {
        let sent = self.catch_up();
        vec![Output::Say(Say::Lost(cause)), Output::Say(Say::Init), Output::Say(Say::Replay), sent]
    }

    /// What has yet to arrive may have been published while the process stood still.
    fn paused(&mut self) -> Vec<Output> {
        match self.phase {
            Phase::Live => self.doubt(Cause::Paused),
            // The probe that is under way was sent before.
            Phase::CatchingUp { .. } => vec![self.catch_up()],
            _ => vec![],
        }
    }

    fn lost(&mut self) -> Vec<Output> {
        let last = self.last.filter(|_| self.rules.resumes).map(Position::At);
        let next = match self.phase {
            Phase::Connecting(position) => position,
            // A stream that was deleted and made again is shorter, and may never deliver what stood
            // at the old place.
            Phase::Resuming { .. }
            | Phase::Probing { resumed: false, .. }
            | Phase::Snapshot { resumed: false } => Position::Replay,
            // The first snapshot is complete, and so is everything up to the last message.
            Phase::Probing { .. }
            | Phase::Snapshot { .. }
            | Phase::CatchingUp { .. }
            | Phase::Live => last.unwrap_or(Position::Replay),
            Phase::Idle | Phase::Pausing(_) | Phase::StoreLost => return vec![],
        };
        self.lose(next, Cause::Broker)
    }

    fn lose(&mut self, next: Position, cause: Cause) -> Vec<Output> {
        self.phase = Phase::Pausing(next);
        let spread = next == Position::Replay && self.complete;
        let pause = if spread { Pause::Spread } else { Pause::Backoff };
        let mut outputs = vec![Output::Say(Say::Lost(cause)), Output::Pause(pause)];
        if self.serves_unbound() {
            outputs.push(Output::EnsureSnapshot(self.reading()));
        }
        outputs
    }

    fn snapshot_done(&mut self) -> Vec<Output> {
        let mut outputs = match self.phase {
            Phase::Snapshot { .. } if self.rules.broker => {
                vec![Output::Say(Say::Replay), self.catch_up()]
            }
            Phase::Snapshot { .. } => {
                let mut outputs = vec![Output::Say(Say::Replay)];
                outputs.extend(self.go_live());
                outputs
            }
            Phase::Pausing(_) | Phase::Connecting(_) if self.serves_unbound() => {
                self.complete = true;
                vec![Output::Say(Say::Unbound)]
            }
            _ => vec![],
        };
        // One that began before this connection kept a probe does not count for it.
        let counts = !matches!(self.phase, Phase::Resuming { .. } | Phase::Probing { .. });
        let soon = self.reads_soon;
        self.reads_soon &= !counts;
        outputs.push(Output::ReadAgain(if soon { Again::Soon } else { Again::Regularly }));
        outputs
    }

    fn snapshot_failed(&mut self) -> Vec<Output> {
        let mut outputs = match self.phase {
            // A store that is away must not hold up a stream that most probably lacks nothing. It is
            // read as soon as it is back.
            Phase::Snapshot { resumed: true } => vec![self.catch_up()],
            Phase::Snapshot { .. } if !self.rules.broker => {
                vec![Output::Say(Say::Lost(Cause::Store))]
            }
            _ => vec![],
        };
        outputs.push(Output::ReadAgain(Again::Retry));
        outputs
    }

    fn snapshot_due(&mut self) -> Vec<Output> {
        let mut outputs = vec![];
        if !self.rules.broker && matches!(self.phase, Phase::Snapshot { .. }) {
            outputs.push(Output::Say(Say::Init));
        }
        outputs.push(self.start_snapshot());
        outputs
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

    fn go_live(&mut self) -> Vec<Output> {
        self.phase = Phase::Live;
        self.complete = true;
        vec![Output::Say(Say::InitDone)]
    }

    /// Whether a complete snapshot alone makes a set that serves, and none has yet.
    const fn serves_unbound(&self) -> bool {
        self.rules.serves_unbound && !self.complete
    }

    const fn start_snapshot(&self) -> Output {
        Output::StartSnapshot(self.reading())
    }

    /// To deny revoked tokens it takes their ids only, and reading those takes half the time.
    const fn reading(&self) -> Reading {
        if self.complete { Reading::MissingExpiries } else { Reading::TokenIds }
    }

    const fn catch_up(&mut self) -> Output {
        let sent = self.send_probe();
        self.phase = Phase::CatchingUp { probe: self.probes };
        sent
    }

    const fn send_probe(&mut self) -> Output {
        self.probes += 1;
        Output::Probe(self.probes)
    }

    const fn is_bound(&self) -> bool {
        self.rules.broker
            && matches!(
                self.phase,
                Phase::Resuming { .. }
                    | Phase::Probing { .. }
                    | Phase::Snapshot { .. }
                    | Phase::CatchingUp { .. }
                    | Phase::Live
            )
    }
}

#[cfg(test)]
mod explore;
#[cfg(test)]
mod tests;
