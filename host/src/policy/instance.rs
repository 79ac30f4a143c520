//! Owns one running instance of a policy: its store, its limits, its deadline.
//!
//! An instance that trapped or ran out of time must be dropped; the caller does so by not putting
//! it back.

use std::time::Duration;

use wasmtime::{Store, StoreLimits, StoreLimitsBuilder, Trap};

use super::{
    HostConfig, bindings::PolicyPre, bindings::exports::portcullis::policy::evaluator as wit,
    engine::ticks,
};

/// What a store carries: the limits, and nothing else, since a policy has no capabilities.
pub(super) type Limits = StoreLimits;

/// A policy that can be called.
pub(super) struct Instance {
    store: Store<Limits>,
    evaluator: wit::Guest,
    output_limit: usize,
    /// Calls of `evaluate` so far.
    pub(super) calls: u32,
}

/// A call into a policy did not return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It ran longer than its deadline.
    #[error("took longer than its deadline of {0:?}")]
    Timeout(Duration),
    /// It trapped, or exceeded a limit.
    #[error("trapped: {0}")]
    Trap(String),
    /// There was no room for another instance.
    #[error("could not be instantiated: {0}")]
    NoInstance(String),
}

// === impl Instance ===

impl Instance {
    /// Instantiates; runs the component's own start functions under `deadline`.
    pub(super) fn new(
        pre: &PolicyPre<Limits>,
        config: &HostConfig,
        deadline: Duration,
    ) -> Result<Self, CallError> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(config.memory_limit_bytes)
            .table_elements(config.table_elements)
            .build();
        let mut store = Store::new(pre.engine(), limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline(ticks(deadline));
        store.set_hostcall_fuel(config.output_limit_bytes);
        let policy = pre.instantiate(&mut store).map_err(|error| match trap_of(&error) {
            Some(trap) => call_error(trap, deadline),
            None => CallError::NoInstance(format!("{error:#}")),
        })?;
        let evaluator = policy.portcullis_policy_evaluator().clone();
        Ok(Self { store, evaluator, output_limit: config.output_limit_bytes, calls: 0 })
    }

    /// Calls `configure`.
    pub(super) fn configure(
        &mut self,
        settings: &str,
        deadline: Duration,
    ) -> Result<Result<wit::Manifest, wit::SettingsError>, CallError> {
        self.prepare(deadline);
        self.evaluator
            .call_configure(&mut self.store, settings)
            .map_err(|error| describe(&error, deadline))
    }

    /// Calls `evaluate`.
    pub(super) fn evaluate(
        &mut self,
        request: wit::Request<'_>,
        deadline: Duration,
    ) -> Result<Result<wit::Decision, wit::EvaluateError>, CallError> {
        self.prepare(deadline);
        self.calls = self.calls.saturating_add(1);
        self.evaluator
            .call_evaluate(&mut self.store, request)
            .map_err(|error| describe(&error, deadline))
    }

    /// Each call gets its full deadline and its full output limit.
    fn prepare(&mut self, deadline: Duration) {
        self.store.set_epoch_deadline(ticks(deadline));
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

fn describe(error: &wasmtime::Error, deadline: Duration) -> CallError {
    match trap_of(error) {
        Some(trap) => call_error(trap, deadline),
        None => CallError::Trap(format!("{error:#}")),
    }
}

fn call_error(trap: Trap, deadline: Duration) -> CallError {
    match trap {
        Trap::Interrupt => CallError::Timeout(deadline),
        trap => CallError::Trap(trap.to_string()),
    }
}
