//! Lock-free histograms of durations: the fixed buckets of a Prometheus histogram, and fine buckets
//! over a sliding window, from which quantiles are read.

use std::{
    array::from_fn,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the exported histogram's buckets. A warm decision takes some 20 microseconds,
/// and Envoy waits for 200 milliseconds by default: both ends need resolution.
pub(super) const BOUNDS: [Duration; 15] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Counts per fixed bucket and in total, since the start.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// One for each of [`BOUNDS`], and one for what is longer. Not cumulative.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// A reading of one or several [`Durations`].
#[derive(Debug, Clone, Default)]
pub(super) struct DurationTotals {
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    pub(super) nanos: u64,
}

/// How long a period of the window lasts.
const PERIOD: Duration = Duration::from_secs(10);
/// How many periods quantiles look back over, the current one included: between 50 and 60 seconds.
const PERIODS: u64 = 6;
/// One more than [`PERIODS`], so that a period is not overwritten while it is still read.
const SLOTS: usize = 7;
/// Buckets per power of two; half a bucket's width is 1/32 of the value, the largest error.
const STEPS: usize = 16;
/// Durations are counted in units of 16 ns, up to 2^32 of them: 68 seconds.
const UNIT_SHIFT: u32 = 4;
/// `STEPS` buckets for each power of two from 2^4 to 2^31 units, and `STEPS` of one unit each
/// below.
const FINE_BUCKETS: usize = STEPS * 29;

/// Counts in fine buckets over the last minute.
///
/// When a period begins, the first thread that records empties the slot of the period that left the
/// window. A few samples recorded at that very moment may go missing from the quantiles; the
/// counters never lose any.
#[derive(Debug)]
pub(super) struct Window([Slot; SLOTS]);

#[derive(Debug)]
struct Slot {
    /// The period that the buckets belong to, [`UNUSED`] before the first.
    period: AtomicU64,
    buckets: [AtomicU32; FINE_BUCKETS],
}

const UNUSED: u64 = u64::MAX;

/// The sum of several windows.
#[derive(Debug)]
pub(super) struct WindowTotals([u64; FINE_BUCKETS]);

// === impl Durations ===

impl Durations {
    pub(super) fn record(&self, duration: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < duration);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos(duration), Relaxed);
    }

    pub(super) fn add_to(&self, totals: &mut DurationTotals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Relaxed);
        }
        totals.nanos = totals.nanos.wrapping_add(self.nanos.load(Relaxed));
    }
}

impl DurationTotals {
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (total, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *total += bucket;
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }
}

// === impl Window ===

impl Default for Window {
    fn default() -> Self {
        Self(from_fn(|_| Slot {
            period: AtomicU64::new(UNUSED),
            buckets: from_fn(|_| AtomicU32::default()),
        }))
    }
}

impl Window {
    /// Counts `duration`, measured `at` this time after the start.
    pub(super) fn record(&self, duration: Duration, at: Duration) {
        let period = period(at);
        let slot = &self.0[slot(period)];
        let seen = slot.period.load(Relaxed);
        if seen != period && slot.period.compare_exchange(seen, period, Relaxed, Relaxed).is_ok() {
            for bucket in &slot.buckets {
                bucket.store(0, Relaxed);
            }
        }
        slot.buckets[fine_bucket(duration)].fetch_add(1, Relaxed);
    }

    /// Adds what was recorded in the window that ends `at` this time after the start.
    pub(super) fn add_to(&self, totals: &mut WindowTotals, at: Duration) {
        let now = period(at);
        for slot in &self.0 {
            let period = slot.period.load(Relaxed);
            if period != UNUSED && period <= now && now - period < PERIODS {
                for (total, bucket) in totals.0.iter_mut().zip(&slot.buckets) {
                    *total += u64::from(bucket.load(Relaxed));
                }
            }
        }
    }
}

// === impl WindowTotals ===

impl Default for WindowTotals {
    fn default() -> Self {
        Self([0; FINE_BUCKETS])
    }
}

impl WindowTotals {
    /// The duration, in seconds, that the share `numerator / denominator` of all samples does not
    /// exceed, with an error of at most 1/32. Not a number if there are no samples, as Prometheus
    /// expects.
    pub(super) fn quantile_seconds(&self, numerator: u64, denominator: u64) -> f64 {
        let count: u64 = self.0.iter().sum();
        let rank = (count * numerator).div_ceil(denominator).max(1);
        let mut seen = 0;
        for (index, samples) in self.0.iter().enumerate() {
            seen += samples;
            if seen >= rank {
                return middle(index).as_secs_f64();
            }
        }
        f64::NAN
    }
}

// === bucket arithmetic ===

fn period(at: Duration) -> u64 {
    at.as_secs() / PERIOD.as_secs()
}

fn slot(period: u64) -> usize {
    usize::try_from(period % SLOTS as u64).unwrap_or(0)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The first `STEPS` buckets are one unit wide; from there on each power of two is cut into
/// `STEPS`.
fn fine_bucket(duration: Duration) -> usize {
    let units = u32::try_from(nanos(duration) >> UNIT_SHIFT).unwrap_or(u32::MAX);
    let shift = units.checked_ilog2().unwrap_or(0).saturating_sub(STEPS.ilog2());
    // `units >> shift` lies between `STEPS` and `2 * STEPS` for every shift but the first.
    shift as usize * STEPS + (units >> shift) as usize
}

/// The inverse of [`fine_bucket`]: the middle of a bucket.
fn middle(bucket: usize) -> Duration {
    let shift = (bucket / STEPS).saturating_sub(1);
    let lowest = (bucket - shift * STEPS) as u64;
    let half_units = (lowest * 2 + 1) << shift;
    Duration::from_nanos(half_units << (UNIT_SHIFT - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals(window: &Window, at: Duration) -> WindowTotals {
        let mut totals = WindowTotals::default();
        window.add_to(&mut totals, at);
        totals
    }

    #[test]
    fn a_sample_leaves_the_window_after_a_minute() {
        let window = Window::default();
        window.record(Duration::from_millis(1), Duration::from_secs(1));
        let median = |at| totals(&window, Duration::from_secs(at)).quantile_seconds(1, 2);
        assert!(median(59) > 0.0);
        assert!(median(60).is_nan());
    }

    #[test]
    fn a_slot_is_emptied_before_it_is_used_again() {
        let window = Window::default();
        let lap = PERIOD * u32::try_from(SLOTS).unwrap();
        window.record(Duration::from_secs(1), Duration::ZERO);
        window.record(Duration::from_millis(1), lap);
        assert!(totals(&window, lap).quantile_seconds(1, 1) < 0.002);
    }

    #[test]
    fn no_duration_is_out_of_range() {
        for duration in [Duration::ZERO, Duration::from_mins(1), Duration::MAX] {
            assert!(fine_bucket(duration) < FINE_BUCKETS, "{duration:?}");
        }
        assert_eq!(fine_bucket(Duration::MAX), FINE_BUCKETS - 1);
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let durations = Durations::default();
        durations.record(Duration::from_micros(50));
        durations.record(Duration::from_nanos(50_001));
        durations.record(Duration::from_secs(3));
        let mut read = DurationTotals::default();
        durations.add_to(&mut read);
        assert_eq!((read.buckets[0], read.buckets[1], read.buckets[15]), (1, 1, 1));
        assert_eq!(read.count(), 3);
    }

    proptest! {
        #[test]
        fn buckets_are_in_order(a in 0..70_000_000_000_u64, b in 0..70_000_000_000_u64) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(
                fine_bucket(Duration::from_nanos(low)) <= fine_bucket(Duration::from_nanos(high))
            );
        }

        #[test]
        fn quantiles_are_close_to_the_exact_ones(
            mut samples in prop::collection::vec(300..60_000_000_000_u64, 1..200),
            percent in 1..=100_u64,
        ) {
            let window = Window::default();
            for sample in &samples {
                window.record(Duration::from_nanos(*sample), Duration::ZERO);
            }
            samples.sort_unstable();
            let rank = (samples.len() * usize::try_from(percent).unwrap()).div_ceil(100);
            let exact = Duration::from_nanos(samples[rank - 1]).as_secs_f64();
            let read = totals(&window, Duration::ZERO).quantile_seconds(percent, 100);
            prop_assert!((read / exact - 1.0).abs() <= 1.0 / 16.0, "{} for {}", read, exact);
        }
    }
}
