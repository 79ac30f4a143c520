//! Closed loop: throughput, and CPU time of the server per request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{LoadError, PATIENCE, Target, join, run_local, spawn};
use crate::{exchange::Caller, proc::CpuTimes};

/// The result of the closed loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    /// Answers per second.
    pub(crate) requests_per_second: f64,
    /// CPU time of the server's process per answer, in microseconds.
    pub(crate) cpu_us_per_request: f64,
}

/// State shared by the thread of a connection and the measuring thread.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    answers: AtomicU64,
}

/// Keeps every stream busy for `warm_up` and then, measured, for `window`.
pub(crate) fn closed_loop(
    target: &Target,
    warm_up: Duration,
    window: Duration,
) -> Result<Closed, LoadError> {
    let mut tallies = Vec::new();
    let mut threads = Vec::new();
    for connection in 0..target.connections {
        let tally = Arc::new(Tally::default());
        tallies.push(Arc::clone(&tally));
        let target = target.clone();
        let limit = warm_up + window + PATIENCE;
        threads.push(spawn("closed-loop", move || {
            run_local(limit, keep_busy(target, connection, tally))
        })?);
    }
    let measured = measure(target.pid, &tallies, warm_up, window);
    for tally in &tallies {
        tally.stop.store(true, Ordering::Relaxed);
    }
    // An error in a thread explains a failed measurement, so it comes first.
    threads.into_iter().try_for_each(join)?;
    measured
}

/// Watches the counters and the process over the window.
fn measure(
    pid: u32,
    tallies: &[Arc<Tally>],
    warm_up: Duration,
    window: Duration,
) -> Result<Closed, LoadError> {
    let answers = || tallies.iter().map(|tally| tally.answers.load(Ordering::Relaxed)).sum::<u64>();
    thread::sleep(warm_up);
    let (begun, cpu, first) = (Instant::now(), CpuTimes::read(pid)?, answers());
    thread::sleep(window);
    let (elapsed, cpu, last) = (begun.elapsed(), CpuTimes::read(pid)?.since(&cpu), answers());
    if last == first {
        return Err(LoadError::Stuck);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds' worth of requests")]
    let answered = (last - first) as f64;
    Ok(Closed {
        requests_per_second: answered / elapsed.as_secs_f64(),
        cpu_us_per_request: cpu.as_secs_f64() * 1e6 / answered,
    })
}

/// Runs one connection until it is stopped, or until the first failure.
async fn keep_busy(target: Target, connection: usize, tally: Arc<Tally>) -> Result<(), LoadError> {
    let caller = Caller::connect(target.address).await?;
    let mut streams = JoinSet::new();
    for stream in 0..target.streams {
        let (mut caller, target, tally) = (caller.clone(), target.clone(), Arc::clone(&tally));
        // Start far apart in the list, so that streams do not send the same call at the same time.
        let begin = (connection * target.streams + stream) * 7;
        streams.spawn_local(async move {
            for n in begin.. {
                if tally.stop.load(Ordering::Relaxed) {
                    break;
                }
                target.call(&mut caller, n).await?;
                tally.answers.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    while let Some(ended) = streams.join_next().await {
        ended.unwrap_or(Err(LoadError::Panicked))?;
    }
    Ok(())
}
