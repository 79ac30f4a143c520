//! Progress of the feed: its state, and whether readers may rely on the set.
//!
//! A pure state machine: it gets events and times as input, and does no I/O.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::FeedEvent;

/// The state of the feed, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeedState {
    /// Waiting for the source to connect for the first time.
    Bind,
    /// Connected; live events are being applied, and so is a snapshot.
    Snapshot,
    /// The snapshot has been read completely; what was published meanwhile is being applied.
    Replay,
    /// Complete and up to date.
    Live,
    /// The connection is lost. The set is kept and goes on serving.
    Stale,
    /// Out of date for longer than allowed. Requests are denied until the feed is back.
    Expired,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Progress {
    max_staleness: Duration,
    /// The state of the feed, unless the set has expired.
    phase: FeedState,
    freshness: Freshness,
    /// Since when the set by itself may be incomplete, even if the store still answers.
    incomplete_since: Option<Instant>,
    /// Whether the process was paused since the set was last complete.
    was_paused: bool,
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
    pub(crate) const fn new(max_staleness: Duration) -> Self {
        Self {
            max_staleness,
            phase: FeedState::Bind,
            freshness: Freshness::Never,
            incomplete_since: None,
            was_paused: false,
        }
    }

    /// Handles an event that arrives at the time `now`, if it is about the state of the source.
    pub(crate) fn on(&mut self, event: &FeedEvent, now: Instant) {
        match (event, self.phase) {
            // In any phase: a source that begins again may have missed something.
            (FeedEvent::Init, _) => {
                self.age_from(now);
                self.phase = FeedState::Snapshot;
            }
            (FeedEvent::Replay, FeedState::Snapshot) => self.phase = FeedState::Replay,
            (FeedEvent::InitDone, FeedState::Snapshot | FeedState::Replay) => {
                self.phase = FeedState::Live;
                self.freshness = Freshness::Now;
                self.incomplete_since = None;
                self.was_paused = false;
            }
            (FeedEvent::Unbound, _) => {
                self.phase = FeedState::Stale;
                self.freshness = Freshness::At(now);
                self.incomplete_since = Some(now);
            }
            (FeedEvent::Paused, _) => self.was_paused = true,
            (FeedEvent::Fresh, _) if self.stale_since().is_some() => {
                self.freshness = Freshness::At(now);
            }
            (FeedEvent::Lost { since, .. }, _) => {
                self.age_from((*since).min(now));
                let was_complete = self.freshness != Freshness::Never;
                self.phase = if was_complete { FeedState::Stale } else { FeedState::Bind };
            }
            // An end without a beginning, or after a loss, proves nothing. Other events are not
            // about the source.
            _ => {}
        }
    }

    /// The state of the feed at the time `now`.
    pub(crate) fn state(&self, now: Instant) -> FeedState {
        let is_over = self.deadline().is_some_and(|deadline| deadline <= now);
        if is_over { FeedState::Expired } else { self.phase }
    }

    /// Whether the set must not be relied upon at the time `now`.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.freshness == Freshness::Never || self.state(now) == FeedState::Expired
    }

    /// Whether a token that is not in the set may pass at the time `now` although the lookup in the
    /// store failed. Answers of the store to other lookups do not make the set younger. After a pause
    /// none may, because publishers did not wait for this replica.
    pub(crate) fn may_pass_without_lookup(&self, now: Instant) -> bool {
        !self.was_paused && self.passes_until().is_none_or(|until| now < until)
    }

    /// The next change after the time `now`, if no event arrives before.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        [self.deadline(), self.passes_until()].into_iter().flatten().filter(|at| *at > now).min()
    }

    fn passes_until(&self) -> Option<Instant> {
        self.incomplete_since?.checked_add(self.max_staleness)
    }

    /// When the set expires, or has expired, if no event arrives before.
    fn deadline(&self) -> Option<Instant> {
        // A bound too large to be a time is no bound.
        self.stale_since()?.checked_add(self.max_staleness)
    }

    /// Since when the set may be incomplete, if it was complete before and may not be now.
    pub(crate) const fn stale_since(&self) -> Option<Instant> {
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

// === impl FeedState ===

impl FeedState {
    /// The names of all.
    pub(crate) const NAMES: [&'static str; 6] =
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

impl fmt::Display for FeedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_STALENESS: Duration = Duration::from_secs(30);

    /// Events about the source, and time passing.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Step {
        Init,
        Replay,
        InitDone,
        Unbound,
        Fresh,
        Paused,
        Lost,
        Seconds(u64),
    }

    const STEPS: [Step; 9] = [
        Step::Init,
        Step::Replay,
        Step::InitDone,
        Step::Unbound,
        Step::Fresh,
        Step::Paused,
        Step::Lost,
        Step::Seconds(20),
        Step::Seconds(30),
    ];

    fn walk(start: Instant, steps: &[Step]) -> (Progress, Instant) {
        let mut progress = Progress::new(MAX_STALENESS);
        let mut now = start;
        for step in steps {
            match step {
                Step::Init => progress.on(&FeedEvent::Init, now),
                Step::Replay => progress.on(&FeedEvent::Replay, now),
                Step::InitDone => progress.on(&FeedEvent::InitDone, now),
                Step::Unbound => progress.on(&FeedEvent::Unbound, now),
                Step::Fresh => progress.on(&FeedEvent::Fresh, now),
                Step::Paused => progress.on(&FeedEvent::Paused, now),
                Step::Lost => progress.on(&FeedEvent::Lost { why: "test", since: now }, now),
                Step::Seconds(secs) => now += Duration::from_secs(*secs),
            }
        }
        (progress, now)
    }

    #[test]
    fn a_store_that_vouches_for_the_set_does_not_make_it_younger() {
        let passes = |steps: &[Step]| {
            let (progress, now) = walk(Instant::now(), steps);
            (progress.state(now), progress.may_pass_without_lookup(now))
        };
        let live = [Step::Init, Step::InitDone];
        assert_eq!(passes(&live), (FeedState::Live, true));
        let lost = [&live[..], &[Step::Lost, Step::Seconds(20), Step::Fresh]].concat();
        assert_eq!(passes(&lost), (FeedState::Stale, true));
        let (progress, now) = walk(Instant::now(), &lost);
        let ten_seconds = Duration::from_secs(10);
        assert_eq!(progress.next_change(now), Some(now + ten_seconds), "before it expires");
        let lost = [&lost[..], &[Step::Seconds(20)]].concat();
        assert_eq!(passes(&lost), (FeedState::Stale, false));
        let (progress, now) = walk(Instant::now(), &lost);
        assert_eq!(progress.next_change(now), Some(now + ten_seconds), "then it expires");
        let back = [&lost[..], &live].concat();
        assert_eq!(passes(&back), (FeedState::Live, true));
        let paused = [&live[..], &[Step::Lost, Step::Paused, Step::Unbound]].concat();
        assert_eq!(passes(&paused), (FeedState::Stale, false));
        assert_eq!(passes(&[&paused[..], &live].concat()), (FeedState::Live, true));
        let unbound = [Step::Unbound, Step::Seconds(20), Step::Fresh, Step::Seconds(20)];
        assert_eq!(passes(&unbound), (FeedState::Stale, false));
    }

    fn state_after(steps: &[Step]) -> FeedState {
        let (progress, now) = walk(Instant::now(), steps);
        progress.state(now)
    }

    /// Whether the set must not be relied upon, computed from the whole history.
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
        use FeedState::{Bind, Expired, Live, Replay, Snapshot, Stale};
        let names = [Bind, Snapshot, Replay, Live, Stale, Expired].map(FeedState::as_str);
        assert_eq!(names, FeedState::NAMES);
    }

    #[test]
    fn a_feed_comes_up_step_by_step() {
        use Step::{Init, InitDone, Lost, Replay, Seconds};
        assert_eq!(state_after(&[]), FeedState::Bind);
        assert_eq!(state_after(&[Lost, Seconds(30)]), FeedState::Bind);
        assert_eq!(state_after(&[Init, Seconds(30)]), FeedState::Snapshot);
        assert_eq!(state_after(&[Init, Replay]), FeedState::Replay);
        assert_eq!(state_after(&[Init, Replay, InitDone]), FeedState::Live);
        assert_eq!(state_after(&[Init, InitDone, Seconds(3600)]), FeedState::Live);
        assert_eq!(state_after(&[Init, Lost, InitDone]), FeedState::Bind);
    }

    #[test]
    fn a_lost_feed_is_stale_then_expired_and_comes_back() {
        use Step::{Fresh, Init, InitDone, Lost, Seconds};
        let lost = [Init, InitDone, Lost];
        let after = |steps: &[Step]| state_after(&[&lost, steps].concat());
        assert_eq!(after(&[Seconds(20)]), FeedState::Stale);
        assert_eq!(after(&[Seconds(20), Fresh, Seconds(20)]), FeedState::Stale);
        assert_eq!(after(&[Seconds(30)]), FeedState::Expired);
        assert_eq!(after(&[Seconds(30), Fresh]), FeedState::Stale);
        assert_eq!(after(&[Seconds(20), Init]), FeedState::Snapshot);
        assert_eq!(after(&[Seconds(20), Init, Seconds(20)]), FeedState::Expired);
        assert_eq!(after(&[Seconds(30), Init, InitDone]), FeedState::Live);
    }

    #[test]
    fn a_set_that_is_complete_without_a_connection_is_stale_at_once() {
        use Step::{Fresh, Init, InitDone, Lost, Seconds, Unbound};
        let after = |steps: &[Step]| state_after(&[&[Lost, Unbound], steps].concat());
        assert_eq!(after(&[]), FeedState::Stale);
        assert_eq!(after(&[Seconds(30)]), FeedState::Expired);
        assert_eq!(after(&[Seconds(20), Fresh, Seconds(20)]), FeedState::Stale);
        assert_eq!(after(&[Lost, Init, Lost]), FeedState::Stale);
        assert_eq!(after(&[Seconds(20), Init, InitDone]), FeedState::Live);
    }

    #[test]
    fn staleness_counts_from_the_last_sign_of_life_not_from_its_discovery() {
        let start = Instant::now();
        let (mut progress, _) = walk(start, &[Step::Init, Step::InitDone]);
        let discovery = start + Duration::from_secs(25);
        let since = start + Duration::from_secs(10);
        progress.on(&FeedEvent::Lost { why: "test", since }, discovery);
        assert_eq!(progress.state(discovery), FeedState::Stale);
        assert_eq!(progress.deadline(), Some(start + Duration::from_secs(40)));
    }
}
