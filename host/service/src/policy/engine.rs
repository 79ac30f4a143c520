//! wasmtime engine: what compiled policies may contain, how many instances there may be, and the
//! clock by which calls are measured.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wasmtime::{
    Config, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmFeatures,
};

use super::{HostConfig, epoch_waker::EpochWaker};

/// How often running policies are interrupted. A call ends at most two of these after its deadline,
/// and not before it, but for what the operating system makes the clock's thread wait.
pub const TICK: Duration = Duration::from_millis(1);

/// How many ticks there are for each time that the runtime is woken: often enough that a long
/// call is not noticed, and seldom enough to cost nothing.
const TICKS_PER_WAKE: u32 = 5;

/// A standard library links small shim modules around the policy's own.
const CORE_INSTANCES_PER_COMPONENT: u32 = 8;
/// The policy's own table and those of the shims.
const TABLES_PER_COMPONENT: u32 = 4;
/// Memory that an instance leaves behind is cleared in place up to this size, and given back to the
/// operating system beyond it: clearing a little is cheaper than faulting it in again.
const KEEP_RESIDENT: usize = 128 << 10;
/// Processes have 128 TiB of address space. Up to so many instances may have 4 GiB each, which makes
/// them quicker.
const MANY_INSTANCES: u64 = 4096;
/// Unmapped bytes behind a memory that has less than 4 GiB.
const SMALL_GUARD: u64 = 64 << 10;
/// More ticks than any call lasts, and so few that adding them to an epoch cannot overflow.
const MAX_TICKS: u64 = u32::MAX as u64;

/// The engine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused the configuration.
    #[error(
        "policy_host: cannot set up room for {instances} policy instances: {cause}; use fewer \
         routes with a policy, a smaller `policy_host.memory_limit_bytes`, or a higher limit on \
         address space (`ulimit -v`)"
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
    if u64::from(instances) > MANY_INSTANCES {
        // Memories no longer have 4 GiB of address space each, in which a wrong address cannot
        // leave them, so compiled code checks its addresses.
        engine.memory_reservation(config.memory_limit_bytes as u64).memory_guard_size(SMALL_GUARD);
    }
    engine
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Nothing that a pure function needs, and all of it has had its share of advisories.
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_features(WasmFeatures::GC | WasmFeatures::FUNCTION_REFERENCES, false)
        .concurrency_support(false)
        // A backtrace is never shown, and collecting it makes a trapping policy an expensive one.
        .wasm_backtrace_max_frames(None);
    Engine::new(&engine)
        .map_err(|error| EngineError::Refused { instances, cause: format!("{error:#}") })
}

/// Advances the engine's epoch every [`TICK`], and wakes the runtime, on its own thread so that a
/// busy runtime cannot stop it. Ends when dropped, or when the engine is gone.
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
    pub(super) fn start(engine: &Engine, waker: EpochWaker) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let engine = engine.weak();
        let thread = thread::Builder::new()
            .name("policy-epoch".to_owned())
            .spawn(move || tick(&engine, &waker, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn tick(engine: &EngineWeak, waker: &EpochWaker, stopped: &mpsc::Receiver<()>) {
    let (started, mut ticks) = (Instant::now(), Ticks::default());
    for turn in (0..TICKS_PER_WAKE).cycle() {
        let pause = stopped.recv_timeout(Ticks::pause(started.elapsed()));
        let (Err(RecvTimeoutError::Timeout), Some(engine)) = (pause, engine.upgrade()) else {
            break;
        };
        for _ in 0..ticks.due(started.elapsed()) {
            engine.increment_epoch();
        }
        if turn == 0 {
            waker.wake();
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
    let ticks = deadline.as_nanos().div_ceil(TICK.as_nanos()) + 1;
    u64::try_from(ticks).map_or(MAX_TICKS, |ticks| ticks.min(MAX_TICKS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmtime::{Instance, Module, Store, Trap};

    use super::*;

    /// How long anything may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Runs for as long as it may, or for about a minute, so that a stopped clock fails a
    /// test instead of stopping it.
    const SPIN: &str = r#"
        (module (func (export "spin") (local i64)
          (loop (br_if 0 (i64.lt_u
            (local.tee 0 (i64.add (local.get 0) (i64.const 1)))
            (i64.const 50_000_000_000))))))
    "#;

    fn engine() -> Engine {
        build(&HostConfig::default(), 1).unwrap()
    }

    /// A guest that spins is ended. How exactly the deadline is met is a matter
    /// of what else the machine does; how many ticks it has is tested below.
    fn assert_ends(engine: &Engine) {
        let module = Module::new(engine, wat::parse_str(SPIN).unwrap()).unwrap();
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
        let begun = Instant::now();
        store.set_epoch_deadline(ticks(Duration::from_millis(20)));
        let ended = spin.call(&mut store, ());
        let trap = ended.expect_err("the deadline ends it").downcast_ref::<Trap>().copied();
        assert_eq!(trap, Some(Trap::Interrupt));
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }

    #[test]
    fn while_the_ticker_lives_calls_are_ended() {
        let engine = engine();
        let _ticker = EpochTicker::start(&engine, EpochWaker::default()).unwrap();
        for _ in 0..3 {
            assert_ends(&engine);
        }
    }

    #[test]
    fn every_engine_has_a_ticker_of_its_own() {
        let (first, second) = (engine(), engine());
        let ticker = EpochTicker::start(&first, EpochWaker::default()).unwrap();
        let _ticker = EpochTicker::start(&second, EpochWaker::default()).unwrap();
        assert_ends(&first);
        drop((ticker, first));
        assert_ends(&second);
    }

    #[test]
    fn the_ticker_does_not_keep_its_engine_alive_and_ends_with_it() {
        let engine = engine();
        let weak = engine.weak();
        let ticker = EpochTicker::start(&engine, EpochWaker::default()).unwrap();
        drop(engine);
        let begun = Instant::now();
        let is_running = || !ticker.thread.as_ref().unwrap().is_finished();
        while is_running() {
            assert!(begun.elapsed() < PATIENCE, "the ticker outlives its engine");
            thread::yield_now();
        }
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn a_deadline_without_end_leaves_room_for_the_epochs_that_were() {
        assert_eq!(ticks(Duration::MAX), MAX_TICKS);
    }

    proptest! {
        #[test]
        fn ticks_last_for_the_deadline_and_hardly_longer(nanos in 0..10_000_000_000_u64) {
            let deadline = Duration::from_nanos(nanos);
            let ticks = u32::try_from(ticks(deadline)).unwrap();
            // The first may be over at once, and none of the others before its time.
            prop_assert!(TICK * (ticks - 1) >= deadline);
            prop_assert!(TICK * ticks <= deadline + TICK * 2);
        }
    }

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
