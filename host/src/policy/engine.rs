//! Owns the wasmtime engine: what compiled policies may contain, how many instances there may be,
//! and the clock that ends calls which take too long.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wasmtime::{
    Config, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
};

use super::HostConfig;

/// How often running policies are looked at; a call ends this long after its deadline, and what the
/// operating system makes the clock's thread wait.
pub const TICK: Duration = Duration::from_millis(1);

/// A standard library links small shim modules around the policy's own.
const CORE_INSTANCES_PER_COMPONENT: u32 = 8;
/// The policy's own table and those of the shims.
const TABLES_PER_COMPONENT: u32 = 4;
/// Memory that an instance leaves behind is cleared in place up to this size, and given back to the
/// operating system beyond it: clearing a little is cheaper than faulting it in again.
const KEEP_RESIDENT: usize = 128 << 10;

/// The engine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused the configuration.
    #[error(
        "policy_host: cannot set up room for {instances} policy instances: {cause}; use fewer \
         routes or a smaller `policy_host.memory_limit_bytes`"
    )]
    Refused {
        /// How many instances were wanted.
        instances: u32,
        /// What wasmtime says.
        cause: String,
    },
    /// The ticker thread could not be started.
    #[error("cannot start the policy deadline thread: {0}; check the limit on threads")]
    NoThread(#[from] io::Error),
}

/// Makes an engine with room for `instances` policy instances at once.
///
/// # Errors
/// When the host cannot reserve the address space.
pub(super) fn build(config: &HostConfig, instances: u32) -> Result<Engine, EngineError> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memory_size(config.memory_limit_bytes)
        .table_elements(config.table_elements)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT);

    let mut engine = Config::new();
    engine
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Nothing that a pure function needs, and all of it has had its share of advisories.
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .concurrency_support(false)
        // Nobody sees a backtrace, and collecting it makes a trapping policy an expensive one.
        .wasm_backtrace_max_frames(None);
    Engine::new(&engine)
        .map_err(|error| EngineError::Refused { instances, cause: format!("{error:#}") })
}

/// Advances the engine's epoch every [`TICK`], on a thread of its own so that a busy runtime cannot
/// stop it. Ends when dropped, or when the engine is gone.
#[derive(Debug)]
pub struct EpochTicker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EpochTicker {
    /// Starts ticking.
    ///
    /// # Errors
    /// When the operating system refuses another thread.
    pub fn start(engine: &Engine) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let engine = engine.weak();
        let thread = thread::Builder::new()
            .name("policy-epoch".to_owned())
            .spawn(move || tick(&engine, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn tick(engine: &EngineWeak, stopped: &mpsc::Receiver<()>) {
    let (started, mut ticks) = (Instant::now(), Ticks::default());
    while stopped.recv_timeout(Ticks::pause(started.elapsed())) == Err(RecvTimeoutError::Timeout) {
        let Some(engine) = engine.upgrade() else { break };
        for _ in 0..ticks.due(started.elapsed()) {
            engine.increment_epoch();
        }
    }
}

/// Counts ticks by the time that has passed: a thread wakes up later than it asked to, and a thousand
/// pauses of a millisecond are more than a second.
#[derive(Debug, Default)]
struct Ticks {
    made: u128,
}

impl Ticks {
    /// Until the next one, if `now` has passed since the start.
    fn pause(now: Duration) -> Duration {
        let since = now.as_nanos() % TICK.as_nanos();
        TICK.saturating_sub(Duration::from_nanos(u64::try_from(since).unwrap_or(u64::MAX)))
    }

    /// How many are to be made now.
    fn due(&mut self, now: Duration) -> u128 {
        let all = now.as_nanos() / TICK.as_nanos();
        all - std::mem::replace(&mut self.made, all)
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread does not panic; if it did, there is nothing left to clean up.
            let _ = thread.join();
        }
    }
}

/// The number of ticks that give a call at least `deadline`.
#[must_use]
pub(super) fn ticks(deadline: Duration) -> u64 {
    // The current tick is already partly over, hence one more.
    let ticks = deadline.as_millis().div_ceil(TICK.as_millis()) + 1;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_made_up_for_where_the_thread_woke_up_late() {
        let (mut ticks, mut made) = (Ticks::default(), 0);
        let mut now = Duration::ZERO;
        for late in [150, 0, 990, 3_000, 20_000, 170, 170, 170] {
            now += Ticks::pause(now) + Duration::from_micros(late);
            made += ticks.due(now);
            assert_eq!(made, now.as_millis(), "{now:?}");
        }
    }
}
