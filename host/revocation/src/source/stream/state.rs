//! The synchronisation state machine of the source: from events at the broker and the store to
//! actions there, and to signals for the feed.
//!
//! It is sans-IO and has no clock, so that tests can explore every order of events. Its invariant:
//! [`Say::InitDone`] is sent only when everything that was published before has been delivered, or
//! was in a snapshot that began after the delivery did. Anything else that is missed is found by
//! the next reading of the store: there always is one in progress or due.

use super::{
    rules::Rules,
    steps::{Cause, Input, Mark, NextRead, Output, Pause, Position, Returned, Say},
};
use crate::redis::SnapshotKind;

/// The state of the synchronisation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SyncState {
    rules: Rules,
    phase: SyncPhase,
    /// Whether the set has been complete once.
    complete: bool,
    /// The last message that was seen.
    last: Option<Mark>,
    /// How many probes were sent.
    probes: u64,
    /// Whether the next reading of the store is followed by another one soon: after an interruption
    /// the broker may have kept nothing of what it confirmed, and a first reading asks for no
    /// expiries.
    reads_soon: bool,
    /// Whether the process was paused, and the outbox has not been read since.
    reads_outbox: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SyncPhase {
    Idle,
    Connecting(Position),
    Pausing(Position),
    /// Connected; the first message to arrive must be this one.
    Resuming {
        mark: Mark,
        probe: u64,
    },
    /// Connected; a probe has yet to prove that published messages reach the queue.
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

// === impl SyncState ===

impl SyncState {
    pub(super) const fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: SyncPhase::Idle,
            complete: false,
            last: None,
            probes: 0,
            reads_soon: true,
            reads_outbox: false,
        }
    }

    /// Whether the lease of the set is renewed: with a store to ask, it says that the process is not
    /// paused, in each phase; else, that the set is current.
    pub(super) fn renews_lease(&self) -> bool {
        self.is_live() || self.rules.serves_unbound
    }

    /// Whether the last signal to the feed is that the set is complete and current.
    pub(super) fn is_live(&self) -> bool {
        self.phase == SyncPhase::Live
    }

    /// Whether the stream was resumed, and the store is read beside it.
    pub(super) const fn is_resuming(&self) -> bool {
        matches!(self.phase, SyncPhase::Snapshot { resumed: true })
    }

    /// Whether the next transition needs a probe of this replica to come back.
    pub(super) const fn awaits_probe(&self) -> bool {
        matches!(
            self.phase,
            SyncPhase::Resuming { .. } | SyncPhase::Probing { .. } | SyncPhase::CatchingUp { .. }
        )
    }

    /// Whether a message was seen before. If the stream was recreated, only the first message of a
    /// connection shows it.
    pub(super) fn has_seen(&self, mark: Option<Mark>) -> bool {
        let is_seen = |(mark, last): (Mark, Mark)| mark == last || mark.offset < last.offset;
        mark.zip(self.last).is_some_and(is_seen)
    }

    /// Handles an input, and returns the actions, in this order.
    pub(super) fn on(&mut self, input: Input) -> Vec<Output> {
        match input {
            Input::Start => self.start(),
            Input::Bound => self.bound(),
            Input::Delivered { mark, probe } => self.delivered(mark, probe),
            Input::ProbeDue if self.is_bound() => vec![self.send_probe()],
            Input::Late if self.is_live() && self.rules.broker => self.doubt(Cause::Late),
            Input::Late => self.delayed(),
            Input::Blocked => self.blocked(),
            Input::Paused if self.rules.broker => self.paused(),
            Input::Lost if self.rules.broker => self.lost(),
            Input::ConnectDue => match self.phase {
                SyncPhase::Pausing(position) => {
                    self.phase = SyncPhase::Connecting(position);
                    vec![Output::Connect(position)]
                }
                _ => vec![],
            },
            Input::SnapshotDone => self.snapshot_done(),
            Input::SnapshotFailed => self.snapshot_failed(),
            Input::SnapshotDue => self.snapshot_due(),
            Input::StoreAnswered => self.store_answered(),
            Input::StoreSilent => self.store_silent(),
            Input::ProbeDue | Input::Paused | Input::Lost => vec![],
        }
    }

    fn start(&mut self) -> Vec<Output> {
        if self.rules.broker {
            self.phase = SyncPhase::Connecting(Position::Replay);
            return vec![Output::Connect(Position::Replay)];
        }
        self.phase = SyncPhase::Snapshot { resumed: false };
        vec![Output::Say(Say::Init), self.start_snapshot()]
    }

    fn bound(&mut self) -> Vec<Output> {
        let SyncPhase::Connecting(position) = self.phase else { return vec![] };
        self.reads_soon = true;
        let sent = self.send_probe();
        let probe = self.probes;
        match position {
            Position::At(mark) => {
                self.phase = SyncPhase::Resuming { mark, probe };
                vec![sent]
            }
            Position::Replay => {
                self.phase = SyncPhase::Probing { probe, resumed: false };
                self.last = None;
                vec![sent, Output::Say(Say::Init)]
            }
        }
    }

    fn delivered(&mut self, mark: Option<Mark>, probe: Option<Returned>) -> Vec<Output> {
        if !self.is_bound() {
            return vec![];
        }
        if let SyncPhase::Resuming { mark: expected, probe } = self.phase {
            if mark != Some(expected) {
                return self.gap();
            }
            self.phase = SyncPhase::Probing { probe, resumed: true };
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
        probe.map_or_else(Vec::new, |probe| self.probe_returned(probe))
    }

    fn probe_returned(&mut self, Returned { number, in_time }: Returned) -> Vec<Output> {
        match self.phase {
            // A broker that comes back has its exchanges before its streams. What is published in
            // between is confirmed and kept nowhere. So the store is read only after a probe was
            // kept.
            SyncPhase::Probing { probe, resumed } if number >= probe => {
                self.phase = SyncPhase::Snapshot { resumed };
                vec![self.start_snapshot()]
            }
            SyncPhase::CatchingUp { probe } if in_time && number >= probe && !self.reads_outbox => {
                vec![self.go_live()]
            }
            _ => vec![],
        }
    }

    /// The stream does not continue where it was left: only a snapshot can show what was missed.
    fn gap(&mut self) -> Vec<Output> {
        self.last = None;
        let mut outputs = vec![Output::Disconnect];
        outputs.extend(self.lose(Position::Replay, Cause::Gap));
        outputs
    }

    /// Everything will be delivered, but possibly later than allowed: the feed counts as lost until
    /// a probe is in time.
    fn doubt(&mut self, cause: Cause) -> Vec<Output> {
        let sent = self.catch_up();
        vec![Output::Say(Say::Lost(cause)), Output::Say(Say::Init), Output::Say(Say::Replay), sent]
    }

    /// Whether [`Input::Late`] has an effect.
    pub(super) fn acts_on_delay(&self) -> bool {
        self.is_live() || self.waits_to_serve()
    }

    /// Whether only a probe is missing before the set is live for the first time.
    fn waits_to_serve(&self) -> bool {
        matches!(self.phase, SyncPhase::CatchingUp { .. }) && self.serves_unbound()
    }

    /// The snapshot has been read, and what was published meanwhile arrives too late. Until
    /// messages are in time, tokens are looked up in the store.
    fn delayed(&mut self) -> Vec<Output> {
        if !self.waits_to_serve() {
            return vec![];
        }
        self.complete = true;
        vec![Output::Say(Say::Unbound), Output::Say(Say::Init), Output::Say(Say::Replay)]
    }

    /// A replica that starts during an alarm must not wait for a probe, since none comes back.
    fn blocked(&mut self) -> Vec<Output> {
        match self.phase {
            SyncPhase::Resuming { .. } | SyncPhase::Probing { resumed: false, .. }
                if self.serves_unbound() =>
            {
                vec![Output::EnsureSnapshot(self.reading())]
            }
            _ => self.delayed(),
        }
    }

    /// Messages that have yet to arrive may have been published while the process was paused, and
    /// what is in the outbox may count as applied: publishers did not wait for this replica.
    fn paused(&mut self) -> Vec<Output> {
        let mut outputs = if self.is_live() { self.doubt(Cause::Paused) } else { vec![] };
        self.reads_outbox = true;
        outputs.extend([Output::Say(Say::Paused), Output::ReadOutbox]);
        outputs
    }

    /// The outbox was read, or the store did not answer. What was relayed meanwhile is in the stream:
    /// the next probe comes behind it.
    fn outbox_read(&mut self) -> Option<Output> {
        let was_due = std::mem::take(&mut self.reads_outbox);
        let waits = matches!(self.phase, SyncPhase::CatchingUp { .. });
        (was_due && waits).then(|| self.catch_up())
    }

    fn lost(&mut self) -> Vec<Output> {
        let last = self.last.filter(|_| self.rules.resumes).map(Position::At);
        let next = match self.phase {
            SyncPhase::Connecting(position) => position,
            // A stream that was deleted and recreated is shorter, and may never reach the old
            // offset.
            SyncPhase::Resuming { .. }
            | SyncPhase::Probing { resumed: false, .. }
            | SyncPhase::Snapshot { resumed: false } => Position::Replay,
            // The first snapshot is complete, and so is everything up to the last message.
            SyncPhase::Probing { .. }
            | SyncPhase::Snapshot { .. }
            | SyncPhase::CatchingUp { .. }
            | SyncPhase::Live => last.unwrap_or(Position::Replay),
            SyncPhase::Idle | SyncPhase::Pausing(_) | SyncPhase::StoreLost => return vec![],
        };
        self.lose(next, Cause::Broker)
    }

    fn lose(&mut self, next: Position, cause: Cause) -> Vec<Output> {
        self.phase = SyncPhase::Pausing(next);
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
            SyncPhase::Snapshot { .. } => {
                let next = if self.rules.broker { self.catch_up() } else { self.go_live() };
                vec![Output::Say(Say::Replay), next]
            }
            SyncPhase::Pausing(_) | SyncPhase::Connecting(_) | SyncPhase::Resuming { .. }
                if self.serves_unbound() =>
            {
                self.complete = true;
                vec![Output::Say(Say::Unbound)]
            }
            // During an alarm of the broker.
            SyncPhase::Probing { resumed: false, .. } if self.serves_unbound() => {
                self.complete = true;
                vec![Output::Say(Say::Unbound), Output::Say(Say::Init)]
            }
            _ => vec![],
        };
        // A snapshot that began before this connection kept a probe does not count for it.
        let counts = !matches!(self.phase, SyncPhase::Resuming { .. } | SyncPhase::Probing { .. });
        let is_first = outputs.first() == Some(&Output::Say(Say::Unbound));
        // During an alarm it may take long until a probe is kept. Then the store is read again.
        let soon = self.reads_soon && (counts || is_first);
        self.reads_soon &= !counts;
        outputs.push(Output::ReadAgain(if soon { NextRead::Soon } else { NextRead::Regularly }));
        outputs
    }

    fn snapshot_failed(&mut self) -> Vec<Output> {
        let mut outputs = match self.phase {
            // An unavailable store must not block a resumed stream that most probably lacks
            // nothing. It is read as soon as it is available.
            SyncPhase::Snapshot { resumed: true } => vec![self.catch_up()],
            SyncPhase::Snapshot { .. } if !self.rules.broker => {
                vec![Output::Say(Say::Lost(Cause::Store))]
            }
            _ => vec![],
        };
        outputs.push(Output::ReadAgain(NextRead::Retry));
        outputs
    }

    fn snapshot_due(&mut self) -> Vec<Output> {
        let begins = !self.rules.broker && matches!(self.phase, SyncPhase::Snapshot { .. });
        let init = begins.then_some(Output::Say(Say::Init));
        init.into_iter().chain([self.start_snapshot()]).collect()
    }

    fn store_answered(&mut self) -> Vec<Output> {
        if self.phase == SyncPhase::StoreLost {
            return vec![Output::Say(Say::Init), self.go_live()];
        }
        let fresh = self.rules.serves_unbound && self.complete && !self.is_live();
        let fresh = fresh.then_some(Output::Say(Say::Fresh));
        fresh.into_iter().chain(self.outbox_read()).collect()
    }

    fn store_silent(&mut self) -> Vec<Output> {
        if self.is_live() && !self.rules.broker {
            self.phase = SyncPhase::StoreLost;
            return vec![Output::Say(Say::Lost(Cause::Store))];
        }
        self.outbox_read().into_iter().collect()
    }

    const fn go_live(&mut self) -> Output {
        self.phase = SyncPhase::Live;
        self.complete = true;
        Output::Say(Say::InitDone)
    }

    /// Whether a complete snapshot alone is enough to serve, and there has been none yet.
    const fn serves_unbound(&self) -> bool {
        self.rules.serves_unbound && !self.complete
    }

    const fn start_snapshot(&self) -> Output {
        Output::StartSnapshot(self.reading())
    }

    /// Two passes: denying revoked tokens needs only their ids, and reading those takes half the
    /// time.
    const fn reading(&self) -> SnapshotKind {
        if self.complete { SnapshotKind::MissingExpiries } else { SnapshotKind::TokenIds }
    }

    const fn catch_up(&mut self) -> Output {
        let sent = self.send_probe();
        self.phase = SyncPhase::CatchingUp { probe: self.probes };
        sent
    }

    const fn send_probe(&mut self) -> Output {
        self.probes += 1;
        Output::Probe(self.probes)
    }

    /// Whether there is a connection to the broker.
    const fn is_bound(&self) -> bool {
        let is_apart = matches!(
            self.phase,
            SyncPhase::Idle | SyncPhase::Connecting(_) | SyncPhase::Pausing(_)
        );
        self.rules.broker && !is_apart
    }
}

#[cfg(test)]
mod explore;
#[cfg(test)]
mod tests;
