//! Policy instance: its store, its limits, and the budget of each call.
//!
//! An instance that trapped or used up its budget must be dropped; the caller does so by not putting
//! it back.

use std::time::Duration;

use wasmtime::{Store, StoreLimits, StoreLimitsBuilder, Trap};

use super::{
    HostConfig,
    bindings::{PolicyPre, exports::portcullis::policy::evaluator as wit},
    budget::{Budget, Meter},
    turns::Turn,
};

/// What a store carries: limits and the meter of the call. A policy has no capabilities.
pub(super) struct StoreState {
    limits: StoreLimits,
    meter: Meter,
}

/// A policy that can be called.
pub(super) struct Instance {
    store: Store<StoreState>,
    evaluator: wit::Guest,
    output_limit: usize,
    /// Calls of `evaluate` so far.
    pub(super) calls: u32,
}

/// A call into a policy did not return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It used more processor time than its deadline allows.
    #[error("took longer than its deadline of {0:?}")]
    Timeout(Duration),
    /// It did not end before its caller stops waiting.
    #[error("did not end before its caller stops waiting")]
    Late,
    /// It trapped, or exceeded a limit.
    #[error("trapped: {0}")]
    Trap(String),
    /// There was no room for another instance.
    #[error("could not be instantiated: {0}")]
    NoInstance(String),
}

// === impl Instance ===

impl Instance {
    /// Instantiates; runs the component's own start functions within `budget`. A `turn` lasts until
    /// the settings are read.
    pub(super) fn new(
        pre: &PolicyPre<StoreState>,
        config: &HostConfig,
        budget: Budget,
        turn: Option<Turn>,
    ) -> Result<Self, CallError> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(config.memory_limit_bytes)
            .table_elements(config.table_elements)
            .build();
        let meter = Meter::new(budget, turn);
        let mut store = Store::new(pre.engine(), StoreState { limits, meter });
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().meter.look()));
        store.set_epoch_deadline(Budget::first_ticks());
        store.set_hostcall_fuel(config.output_limit_bytes);
        let policy = pre.instantiate(&mut store).map_err(|error| match trap_of(&error) {
            Some(trap) => call_error(trap, budget),
            None => CallError::NoInstance(format!("{error:#}")),
        })?;
        let evaluator = policy.portcullis_policy_evaluator().clone();
        Ok(Self { store, evaluator, output_limit: config.output_limit_bytes, calls: 0 })
    }

    /// Calls `configure`.
    pub(super) fn configure(
        &mut self,
        settings: &str,
        budget: Budget,
    ) -> Result<Result<wit::Manifest, wit::SettingsError>, CallError> {
        let turn = self.store.data_mut().meter.end();
        self.prepare(budget, turn);
        let called = self.evaluator.call_configure(&mut self.store, settings);
        self.store.data_mut().meter.end();
        called.map_err(|error| describe(&error, budget))
    }

    /// Calls `evaluate`, in turns with others if it has a turn.
    pub(super) fn evaluate(
        &mut self,
        request: wit::Request<'_>,
        budget: Budget,
        turn: Option<Turn>,
    ) -> Result<Result<wit::Decision, wit::EvaluateError>, CallError> {
        self.prepare(budget, turn);
        self.calls = self.calls.saturating_add(1);
        let called = self.evaluator.call_evaluate(&mut self.store, request);
        self.store.data_mut().meter.end();
        called.map_err(|error| describe(&error, budget))
    }

    /// Each call gets its full budget and its full output limit.
    fn prepare(&mut self, budget: Budget, turn: Option<Turn>) {
        self.store.data_mut().meter = Meter::new(budget, turn);
        self.store.set_epoch_deadline(Budget::first_ticks());
        self.store.set_hostcall_fuel(self.output_limit);
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("calls", &self.calls).finish_non_exhaustive()
    }
}

fn trap_of(error: &wasmtime::Error) -> Option<Trap> {
    error.downcast_ref::<Trap>().copied()
}

fn describe(error: &wasmtime::Error, budget: Budget) -> CallError {
    match trap_of(error) {
        Some(trap) => call_error(trap, budget),
        None => CallError::Trap(format!("{error:#}")),
    }
}

fn call_error(trap: Trap, budget: Budget) -> CallError {
    match trap {
        Trap::Interrupt if budget.is_over() => CallError::Late,
        Trap::Interrupt => CallError::Timeout(budget.processor),
        trap => CallError::Trap(trap.to_string()),
    }
}
