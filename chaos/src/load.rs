//! Load of the machine: runnable threads per processor, and how much slower everything runs
//! therefore.
//!
//! A bound of wall-clock time means little while other work uses the processors. So the bound that
//! fails a run is stretched by the slowdown that is measured here.

use std::{fs, num::NonZero, thread, time::Duration};

use crate::moment::{Clock, Moment, Span};

/// Samples of the load during a run.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Threads per processor, in thousandths.
    samples: Vec<(Moment, u32)>,
}

/// How far before and after a span samples count for it.
const AROUND: Duration = Duration::from_millis(500);
/// How many samples [`slowdown_now`] takes, and the time between them.
const SAMPLES: u32 = 25;
/// See [`SAMPLES`].
const SAMPLE: Duration = Duration::from_millis(10);
/// The load is capped here: on a slower machine no measurement is valid.
const MAX_LOAD: u32 = 16_000;

// === impl Load ===

impl Load {
    /// Takes a sample. Machines without `/proc/loadavg` have none.
    pub fn sample(&mut self, at: Moment) {
        if let Some(load) = threads_for_each_processor() {
            self.samples.push((at, load));
        }
    }

    /// Adds a sample, as a share of the processors in thousandths.
    pub fn push(&mut self, at: Moment, load: u32) {
        self.samples.push((at, load));
    }

    /// Adds the samples of another recorder.
    pub fn merge(&mut self, other: Self) {
        self.samples.extend(other.samples);
    }

    /// How many times longer than on an idle machine work takes in a span; at least 1.
    #[must_use]
    pub fn slowdown(&self, span: Span) -> f64 {
        let around = span.grown(AROUND);
        let within = self.samples.iter().filter(|(at, _)| around.meets(Span::new(*at, *at)));
        let (sum, count) = within.fold((0_u64, 0_u32), |(sum, count), (_, load)| {
            (sum + u64::from(*load), count.saturating_add(1))
        });
        mean(sum, count).max(1.0)
    }

    /// The mean over the whole run.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let sum = self.samples.iter().map(|(_, load)| u64::from(*load)).sum();
        mean(sum, u32::try_from(self.samples.len()).unwrap_or(u32::MAX))
    }
}

/// How many times longer than on an idle machine work takes now.
pub async fn slowdown_now(clock: Clock) -> f64 {
    let (began, mut load) = (clock.now(), Load::default());
    for _ in 0..SAMPLES {
        load.sample(clock.now());
        tokio::time::sleep(SAMPLE).await;
    }
    load.slowdown(Span::new(began, clock.now()))
}

fn mean(sum: u64, count: u32) -> f64 {
    let sum = u32::try_from(sum / u64::from(count.max(1))).unwrap_or(u32::MAX);
    f64::from(sum) / 1e3
}

/// In thousandths, without the thread that reads it.
fn threads_for_each_processor() -> Option<u32> {
    // 0.20 0.18 0.12 1/80 11206
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let running = text.split(' ').nth(3)?.split_once('/')?.0.parse::<u32>().ok()?;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    Some((running.saturating_sub(1) * 1000 / processors).min(MAX_LOAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Moment {
        Moment::after(Duration::from_millis(millis))
    }

    #[test]
    fn slowdown_is_the_mean_load_around_the_span() {
        let mut load = Load::default();
        for (at, share) in [(0, 500), (1000, 2000), (1200, 4000), (9000, 500)] {
            load.push(ms(at), share);
        }
        let slowdown = |began, ended| load.slowdown(Span::new(ms(began), ms(ended)));
        assert!((slowdown(900, 1300) - 3.0).abs() < 1e-9);
        assert!((slowdown(8800, 9000) - 1.0).abs() < 1e-9, "the slowdown is never below 1");
        assert!((slowdown(5000, 5001) - 1.0).abs() < 1e-9, "there are no samples");
    }
}
