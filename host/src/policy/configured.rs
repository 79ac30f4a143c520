//! Owns a policy together with one set of settings: what it reads, and its warm instances.

use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::{
    HostConfig,
    bindings::exports::portcullis::policy::evaluator as wit,
    component::Prepared,
    convert::{self, Answer},
    input::Input,
    instance::{CallError, Instance},
    manifest::{Manifest, ManifestError},
};

/// A policy that accepted its settings.
#[derive(Debug)]
pub(super) struct Configured {
    prepared: Prepared,
    host: HostConfig,
    settings: String,
    manifest: Manifest,
    /// Instances that have been configured and are between two requests. Bounded by the number of
    /// threads that can be inside a call at once, so a burst leaves no heap of instances behind.
    warm: ArrayQueue<Instance>,
}

/// A policy does not take its settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// It cannot read them at all.
    #[error("it cannot read the settings: {0}")]
    Syntax(String),
    /// A value is wrong.
    #[error("settings.{path}: {message}")]
    Invalid {
        /// Where in the settings.
        path: String,
        /// What the policy says of it.
        message: String,
    },
    /// It asks for inputs that do not exist.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// `configure` did not return.
    #[error("`configure` {0}")]
    Call(#[from] CallError),
}

/// A policy gave no usable verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// `evaluate` did not return.
    #[error("`evaluate` {0}")]
    Call(#[from] CallError),
    /// It returned an error.
    #[error("`evaluate` failed: {0}")]
    Failed(String),
    /// A new instance refused the settings that the first one accepted.
    #[error("a new instance refuses its settings: {0}")]
    Unsteady(String),
}

// === impl Configured ===

impl Configured {
    /// Asks a first instance whether it takes `settings`, JSON text.
    pub(super) fn new(
        prepared: &Prepared,
        host: &HostConfig,
        settings: String,
        threads: usize,
    ) -> Result<Self, ConfigureError> {
        let deadline = host.configure_deadline.get();
        let (instance, manifest) = start(prepared, host, &settings, deadline)?;
        let warm = ArrayQueue::new(threads.max(1));
        if host.instance_reuse > 1 {
            // The queue is empty and holds at least one.
            let _ = warm.push(instance);
        }
        Ok(Self {
            prepared: prepared.clone(),
            host: host.clone(),
            settings,
            manifest: Manifest::check(manifest)?,
            warm,
        })
    }

    /// Asks the policy. Starting an instance, where none is warm, counts against `deadline` too.
    pub(super) fn evaluate(
        &self,
        input: &Input<'_>,
        deadline: Duration,
    ) -> Result<Answer, EvaluateError> {
        let (mut instance, left) = if let Some(instance) = self.warm.pop() {
            (instance, deadline)
        } else {
            let begun = Instant::now();
            let instance = self.start_another(deadline)?;
            (instance, deadline.saturating_sub(begun.elapsed()))
        };
        let decision = convert::with_request(&self.manifest, input, |request| {
            instance.evaluate(request, left)
        })?;
        // Only an instance that returned is put back; `?` above drops one that did not.
        if instance.calls < self.host.instance_reuse {
            let _ = self.warm.push(instance);
        }
        decision.map(convert::answer).map_err(|error| EvaluateError::Failed(text(error)))
    }

    fn start_another(&self, deadline: Duration) -> Result<Instance, EvaluateError> {
        match start(&self.prepared, &self.host, &self.settings, deadline) {
            Ok((instance, _)) => Ok(instance),
            Err(ConfigureError::Call(error)) => Err(error.into()),
            Err(error) => Err(EvaluateError::Unsteady(error.to_string())),
        }
    }
}

fn start(
    prepared: &Prepared,
    host: &HostConfig,
    settings: &str,
    deadline: Duration,
) -> Result<(Instance, wit::Manifest), ConfigureError> {
    let begun = Instant::now();
    let mut instance = Instance::new(&prepared.pre, host, deadline)?;
    match instance.configure(settings, deadline.saturating_sub(begun.elapsed()))? {
        Ok(manifest) => Ok((instance, manifest)),
        Err(wit::SettingsError::Syntax(message)) => {
            Err(ConfigureError::Syntax(printable(&message)))
        }
        Err(wit::SettingsError::Invalid(problem)) => Err(ConfigureError::Invalid {
            path: printable(&problem.path),
            message: printable(&problem.message),
        }),
    }
}

fn text(error: wit::EvaluateError) -> String {
    match error {
        wit::EvaluateError::BadRequest(message) => format!("bad request: {}", printable(&message)),
        wit::EvaluateError::Internal(message) => printable(&message),
    }
}

/// A policy's words without control characters, which could forge lines on a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
