//! Monotonic time of a run: moments, spans, and the clock that they are read from.

use std::time::{Duration, Instant};

/// The time since the run began, by one monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

/// The clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

/// From one moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub began: Moment,
    /// Its end.
    pub ended: Moment,
}

// === impl Moment ===

impl Moment {
    /// A moment by its time since the run began.
    #[must_use]
    pub const fn after(time: Duration) -> Self {
        Self(time)
    }

    /// The time since the run began.
    #[must_use]
    pub const fn since_begin(self) -> Duration {
        self.0
    }

    /// The time from an earlier moment to this one; zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// An earlier moment; the beginning if there is none.
    #[must_use]
    pub const fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }

    /// A later moment.
    #[must_use]
    pub const fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

// === impl Clock ===

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// The current moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.at(Instant::now())
    }

    /// The moment at a time.
    #[must_use]
    pub fn at(&self, time: Instant) -> Moment {
        Moment(time.saturating_duration_since(self.0))
    }
}

// === impl Span ===

impl Span {
    /// From `began` to `ended`.
    #[must_use]
    pub const fn new(began: Moment, ended: Moment) -> Self {
        Self { began, ended }
    }

    /// How long it is.
    #[must_use]
    pub const fn length(self) -> Duration {
        self.ended.since(self.began)
    }

    /// The time that both have in common; empty if they do not overlap.
    #[must_use]
    pub fn overlap(self, other: Self) -> Self {
        let began = self.began.max(other.began);
        Self { began, ended: self.ended.min(other.ended).max(began) }
    }

    /// The span, extended by this time on both sides.
    #[must_use]
    pub fn grown(self, time: Duration) -> Self {
        Self { began: self.began.minus(time), ended: self.ended.plus(time) }
    }

    /// Whether the spans overlap; touching counts.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        self.began <= other.ended && other.began <= self.ended
    }
}
