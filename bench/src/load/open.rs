//! Open loop: latency at a fixed rate.

use std::{
    num::NonZeroU64,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};

use super::{LoadError, PATIENCE, Target, join, run_local, spawn};
use crate::exchange::Caller;

/// The result of the open loop: quantiles of the latency, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    /// Half of the calls took at most this long.
    pub(crate) p50_us: f64,
    /// All but one in a hundred took at most this long.
    pub(crate) p99_us: f64,
}

/// A call to make.
struct Due {
    /// When it is due.
    at: Instant,
    /// The index of the call.
    n: usize,
    /// Whether it counts, or is part of the warm-up.
    counts: bool,
}

/// Begins `rate` calls per second, evenly, for `warm_up` and then, measured, for `window`.
pub(crate) fn open_loop(
    target: &Target,
    rate: u32,
    warm_up: Duration,
    window: Duration,
) -> Result<Open, LoadError> {
    let mut senders = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..target.connections {
        let (sender, due) = mpsc::unbounded_channel();
        senders.push(sender);
        let target = target.clone();
        let limit = warm_up + window + PATIENCE;
        threads.push(spawn("open-loop", move || run_local(limit, answer_all(target, due)))?);
    }
    spawn("open-loop-pace", move || pace(&senders, rate, warm_up, window)).and_then(join)?;
    let mut all = latencies()?;
    for thread in threads {
        // The histograms are equal in range.
        let _ = all.add(join(thread)?);
    }
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds, far below 2^52")]
    let quantile = |q| all.value_at_quantile(q) as f64 / 1e3;
    Ok(Open { p50_us: quantile(0.5), p99_us: quantile(0.99) })
}

/// Schedules the calls, on each connection in turn. It needs a separate thread, because the
/// runtime's timers tick in milliseconds, and a call every 200 microseconds must begin on time.
fn pace(
    connections: &[UnboundedSender<Due>],
    rate: u32,
    warm_up: Duration,
    window: Duration,
) -> Result<(), LoadError> {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).map_err(std::io::Error::from)?;
    let begun = Instant::now();
    let interval = Duration::from_secs(1) / rate;
    for (n, connection) in connections.iter().cycle().enumerate() {
        let after = interval.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
        if after >= warm_up + window {
            break;
        }
        let at = begun + after;
        // Overdue calls are sent at once, one after the other.
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if connection.send(Due { at, n, counts: after >= warm_up }).is_err() {
            // The thread of the connection reports why it ended.
            break;
        }
    }
    Ok(())
}

/// Makes the calls of one connection as they become due.
async fn answer_all(
    target: Target,
    mut due: UnboundedReceiver<Due>,
) -> Result<Histogram<u64>, LoadError> {
    let target = Rc::new(target);
    let caller = Caller::connect(target.address).await?;
    let mut latencies = latencies()?;
    let mut record = |latency: Option<Duration>| {
        if let Some(latency) = latency {
            latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        }
    };
    let mut calls = JoinSet::new();
    while let Some(next) = due.recv().await {
        calls.spawn_local(call(Rc::clone(&target), caller.clone(), next));
        while let Some(ended) = calls.try_join_next() {
            record(ended.unwrap_or(Err(LoadError::Panicked))?);
        }
    }
    while let Some(ended) = calls.join_next().await {
        record(ended.unwrap_or(Err(LoadError::Panicked))?);
    }
    Ok(latencies)
}

/// Makes one call, and returns its latency from the due time, if it counts.
async fn call(
    target: Rc<Target>,
    mut caller: Caller,
    due: Due,
) -> Result<Option<Duration>, LoadError> {
    target.call(&mut caller, due.n).await?;
    Ok(due.counts.then(|| due.at.elapsed()))
}

/// Latencies in nanoseconds, up to a minute, to three digits.
fn latencies() -> Result<Histogram<u64>, LoadError> {
    Ok(Histogram::new_with_max(60_000_000_000, 3)?)
}
