//! Owns how far the feed has come, and whether what it has delivered may be relied upon.
//!
//! Pure: it is told what happens and when, and does nothing itself.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Where the feed stands, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Waiting for the source to connect for the first time.
    Bind,
    /// Connected; live events are being applied, and so is a snapshot.
    Snapshot,
    /// The snapshot has been read whole; what was published meanwhile is being applied.
    Replay,
    /// Complete and up to date.
    Live,
    /// The connection is lost. The set is kept and serves on.
    Stale,
    /// Out of date for longer than allowed. Requests are denied until the feed is back.
    Expired,
}

/// What a source says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Init,
    Replay,
    InitDone,
    Unbound,
    Fresh,
    Lost { since: Instant },
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Progress {
    max_staleness: Duration,
    phase: Phase,
    freshness: Freshness,
    /// Since when the set by itself may be incomplete, whatever the store vouches for.
    incomplete_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Disconnected,
    Snapshot,
    Replay,
    Live,
}

/// When the set was last known to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Never,
    At(Instant),
    Now,
}

// === impl Progress ===

impl Progress {
    pub(super) const fn new(max_staleness: Duration) -> Self {
        Self {
            max_staleness,
            phase: Phase::Disconnected,
            freshness: Freshness::Never,
            incomplete_since: None,
        }
    }

    /// Takes notice of a signal that arrives at the time `now`.
    pub(super) fn on(&mut self, signal: Signal, now: Instant) {
        match (signal, self.phase) {
            // Whatever came before: a source that begins again may have missed something since.
            (Signal::Init, _) => {
                self.age_from(now);
                self.phase = Phase::Snapshot;
            }
            (Signal::Replay, Phase::Snapshot) => self.phase = Phase::Replay,
            (Signal::InitDone, Phase::Snapshot | Phase::Replay) => {
                self.phase = Phase::Live;
                self.freshness = Freshness::Now;
                self.incomplete_since = None;
            }
            // The end of something that has no beginning, or that was lost since, proves nothing.
            (Signal::Replay | Signal::InitDone, _) => {}
            (Signal::Unbound, _) => {
                self.phase = Phase::Disconnected;
                self.freshness = Freshness::At(now);
                self.incomplete_since = Some(now);
            }
            (Signal::Fresh, _) => {
                if let Freshness::At(_) = self.freshness {
                    self.freshness = Freshness::At(now);
                }
            }
            (Signal::Lost { since }, _) => {
                self.age_from(since.min(now));
                self.phase = Phase::Disconnected;
            }
        }
    }

    /// Where the feed stands at the time `now`.
    pub(super) fn state(&self, now: Instant) -> State {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            return State::Expired;
        }
        match self.phase {
            Phase::Disconnected if self.freshness == Freshness::Never => State::Bind,
            Phase::Disconnected => State::Stale,
            Phase::Snapshot => State::Snapshot,
            Phase::Replay => State::Replay,
            Phase::Live => State::Live,
        }
    }

    /// Whether the set must not be relied upon at the time `now`.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.freshness == Freshness::Never || self.state(now) == State::Expired
    }

    /// Whether a token that is not on the set may pass at the time `now` although the store, which
    /// should have been asked, did not answer. That it answers others does not make the set younger.
    pub(super) fn may_pass_unasked(&self, now: Instant) -> bool {
        self.unasked_until().is_none_or(|until| now < until)
    }

    /// When something of this changes after the time `now`, unless something is heard before.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        [self.deadline(), self.unasked_until()].into_iter().flatten().filter(|at| *at > now).min()
    }

    fn unasked_until(&self) -> Option<Instant> {
        self.incomplete_since?.checked_add(self.max_staleness)
    }

    /// When the set expires, or did, unless something is heard before.
    fn deadline(&self) -> Option<Instant> {
        // A bound too large to be a time is no bound.
        self.stale_since()?.checked_add(self.max_staleness)
    }

    /// Since when the set may be incomplete, if it was complete before and may not be now.
    pub(super) const fn stale_since(&self) -> Option<Instant> {
        match self.freshness {
            Freshness::At(at) => Some(at),
            Freshness::Never | Freshness::Now => None,
        }
    }

    fn age_from(&mut self, at: Instant) {
        if self.freshness == Freshness::Now {
            self.freshness = Freshness::At(at);
            self.incomplete_since = Some(at);
        }
    }
}

// === impl State ===

impl State {
    /// The names of all.
    pub(super) const NAMES: [&'static str; 6] =
        ["bind", "snapshot", "replay", "live", "stale", "expired"];

    /// Its name, for metrics and the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Snapshot => "snapshot",
            Self::Replay => "replay",
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_STALENESS: Duration = Duration::from_secs(30);

    /// Signals, and time passing.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Step {
        Init,
        Replay,
        InitDone,
        Unbound,
        Fresh,
        Lost,
        Seconds(u64),
    }

    const STEPS: [Step; 8] = [
        Step::Init,
        Step::Replay,
        Step::InitDone,
        Step::Unbound,
        Step::Fresh,
        Step::Lost,
        Step::Seconds(20),
        Step::Seconds(30),
    ];

    fn walk(start: Instant, steps: &[Step]) -> (Progress, Instant) {
        let mut progress = Progress::new(MAX_STALENESS);
        let mut now = start;
        for step in steps {
            match step {
                Step::Init => progress.on(Signal::Init, now),
                Step::Replay => progress.on(Signal::Replay, now),
                Step::InitDone => progress.on(Signal::InitDone, now),
                Step::Unbound => progress.on(Signal::Unbound, now),
                Step::Fresh => progress.on(Signal::Fresh, now),
                Step::Lost => progress.on(Signal::Lost { since: now }, now),
                Step::Seconds(secs) => now += Duration::from_secs(*secs),
            }
        }
        (progress, now)
    }

    #[test]
    fn a_store_that_vouches_for_the_set_does_not_make_it_younger() {
        let passes = |steps: &[Step]| {
            let (progress, now) = walk(Instant::now(), steps);
            (progress.state(now), progress.may_pass_unasked(now))
        };
        let live = [Step::Init, Step::InitDone];
        assert_eq!(passes(&live), (State::Live, true));
        let lost = [&live[..], &[Step::Lost, Step::Seconds(20), Step::Fresh]].concat();
        assert_eq!(passes(&lost), (State::Stale, true));
        let (progress, now) = walk(Instant::now(), &lost);
        let ten_seconds = Duration::from_secs(10);
        assert_eq!(progress.next_change(now), Some(now + ten_seconds), "before it expires");
        let lost = [&lost[..], &[Step::Seconds(20)]].concat();
        assert_eq!(passes(&lost), (State::Stale, false));
        let (progress, now) = walk(Instant::now(), &lost);
        assert_eq!(progress.next_change(now), Some(now + ten_seconds), "then it expires");
        let back = [&lost[..], &live].concat();
        assert_eq!(passes(&back), (State::Live, true));
        let unbound = [Step::Unbound, Step::Seconds(20), Step::Fresh, Step::Seconds(20)];
        assert_eq!(passes(&unbound), (State::Stale, false));
    }

    fn state_after(steps: &[Step]) -> State {
        let (progress, now) = walk(Instant::now(), steps);
        progress.state(now)
    }

    /// Whether the set must not be relied upon, by looking back over the whole history.
    fn is_expired_in_hindsight(steps: &[Step]) -> bool {
        let completes = |index: usize| {
            let turns = |step: &&Step| {
                matches!(step, Step::Init | Step::InitDone | Step::Unbound | Step::Lost)
            };
            let before = steps.iter().take(index).rev().find(turns);
            match steps.get(index) {
                Some(Step::InitDone) => before == Some(&Step::Init),
                step => step == Some(&Step::Unbound),
            }
        };
        let Some(complete) = (0..steps.len()).rev().find(|index| completes(*index)) else {
            return true;
        };
        let doubt = |step: &Step| matches!(step, Step::Init | Step::Unbound | Step::Lost);
        let mut since_complete = steps.iter().skip(complete).skip_while(|step| !doubt(step));
        let Some(_) = since_complete.next() else { return false };
        let silence = since_complete.fold(0, |silence, step| match step {
            Step::Fresh => 0,
            Step::Seconds(secs) => silence + secs,
            _ => silence,
        });
        silence >= MAX_STALENESS.as_secs()
    }

    #[test]
    fn no_history_makes_an_incomplete_or_old_set_count() {
        let start = Instant::now();
        let mut histories: Vec<Vec<Step>> = vec![vec![]];
        for _ in 0..6 {
            let longer = |history: &Vec<Step>| {
                STEPS.map(|step| history.iter().copied().chain([step]).collect::<Vec<_>>())
            };
            histories = histories.iter().flat_map(longer).collect();
            for history in &histories {
                let (progress, now) = walk(start, history);
                let expired = is_expired_in_hindsight(history);
                assert_eq!(progress.is_expired(now), expired, "{history:?}");
            }
        }
    }

    #[test]
    fn every_state_has_its_name_in_the_list() {
        use State::{Bind, Expired, Live, Replay, Snapshot, Stale};
        let names = [Bind, Snapshot, Replay, Live, Stale, Expired].map(State::as_str);
        assert_eq!(names, State::NAMES);
    }

    #[test]
    fn a_feed_comes_up_step_by_step() {
        use Step::{Init, InitDone, Lost, Replay, Seconds};
        assert_eq!(state_after(&[]), State::Bind);
        assert_eq!(state_after(&[Lost, Seconds(30)]), State::Bind);
        assert_eq!(state_after(&[Init, Seconds(30)]), State::Snapshot);
        assert_eq!(state_after(&[Init, Replay]), State::Replay);
        assert_eq!(state_after(&[Init, Replay, InitDone]), State::Live);
        assert_eq!(state_after(&[Init, InitDone, Seconds(3600)]), State::Live);
        assert_eq!(state_after(&[Init, Lost, InitDone]), State::Bind);
    }

    #[test]
    fn a_lost_feed_is_stale_then_expired_and_comes_back() {
        use Step::{Fresh, Init, InitDone, Lost, Seconds};
        let lost = [Init, InitDone, Lost];
        let after = |steps: &[Step]| state_after(&[&lost, steps].concat());
        assert_eq!(after(&[Seconds(20)]), State::Stale);
        assert_eq!(after(&[Seconds(20), Fresh, Seconds(20)]), State::Stale);
        assert_eq!(after(&[Seconds(30)]), State::Expired);
        assert_eq!(after(&[Seconds(30), Fresh]), State::Stale);
        assert_eq!(after(&[Seconds(20), Init]), State::Snapshot);
        assert_eq!(after(&[Seconds(20), Init, Seconds(20)]), State::Expired);
        assert_eq!(after(&[Seconds(30), Init, InitDone]), State::Live);
    }

    #[test]
    fn a_set_that_is_complete_without_a_connection_is_stale_at_once() {
        use Step::{Fresh, Init, InitDone, Lost, Seconds, Unbound};
        let after = |steps: &[Step]| state_after(&[&[Lost, Unbound], steps].concat());
        assert_eq!(after(&[]), State::Stale);
        assert_eq!(after(&[Seconds(30)]), State::Expired);
        assert_eq!(after(&[Seconds(20), Fresh, Seconds(20)]), State::Stale);
        assert_eq!(after(&[Lost, Init, Lost]), State::Stale);
        assert_eq!(after(&[Seconds(20), Init, InitDone]), State::Live);
    }

    #[test]
    fn staleness_counts_from_the_last_sign_of_life_not_from_its_discovery() {
        let start = Instant::now();
        let (mut progress, _) = walk(start, &[Step::Init, Step::InitDone]);
        let discovery = start + Duration::from_secs(25);
        progress.on(Signal::Lost { since: start + Duration::from_secs(10) }, discovery);
        assert_eq!(progress.state(discovery), State::Stale);
        assert_eq!(progress.deadline(), Some(start + Duration::from_secs(40)));
    }
}
