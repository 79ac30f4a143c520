//! Configured policy: a component together with one set of settings, its instances and its threads.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::task::spawn_blocking;

use super::{
    HostConfig,
    bindings::exports::portcullis::policy::evaluator as wit,
    budget::Budget,
    component::Prepared,
    convert::{self, PolicyAnswer},
    engine::EpochTicker,
    filler::{Fill, Filler},
    input::{Input, OwnedInput},
    instance::{CallError, Instance},
    manifest::{Manifest, ManifestError},
    pool::{NoInstance, Pool},
    share::{PolicyShare, QUICK, Share, slow_threads},
    turns::Turn,
};

/// Instances that are started before a revision serves, where there are that many threads. More are
/// started when requests find none.
const AT_FIRST: usize = 4;

/// A policy that accepted its settings.
#[derive(Debug)]
pub(super) struct Configured {
    prepared: Prepared,
    host: HostConfig,
    settings: String,
    manifest: Manifest,
    pool: Pool<Seated>,
    share: Share,
    filler: Filler,
    /// The filler knows that instances are missing.
    is_asked: AtomicBool,
    /// Calls end by its ticks, so it lives for as long as there can be calls.
    _ticker: Arc<EpochTicker>,
    this: Weak<Self>,
}

/// What a policy is configured with, besides its settings.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) host: HostConfig,
    /// Threads that serve requests.
    pub(super) threads: usize,
    pub(super) filler: Filler,
    pub(super) share: PolicyShare,
    pub(super) ticker: Arc<EpochTicker>,
}

/// An instance with its place in the count of its pool.
#[derive(Debug)]
pub(super) struct Seated {
    instance: Instance,
    /// Releases the place when the instance is dropped, and has it filled again.
    _seat: Seat,
}

/// The place of one instance in the count of its pool.
#[derive(Debug)]
struct Seat(Weak<Configured>);

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
    /// Two instances with the same settings ask for different inputs.
    #[error("its manifest is another one in each instance; the same settings must give the same")]
    Unsteady,
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
    /// Slow calls, of this policy or of others, use all that it may have.
    #[error(
        "slow calls use all threads and turns that the policy may have; none became free in time"
    )]
    Busy,
    /// No instance became free, and none could be started, in time.
    #[error("no instance became free in time")]
    NoInstance,
}

/// What came of asking the policy on the thread of the request.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It answered, or failed.
    Answered(Outcome),
    /// No instance is ready.
    NoInstance,
    /// It needs its own thread.
    Slow,
}

/// A request could not be answered by this revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The revision has been replaced; the one that replaced it answers.
    Replaced,
    /// There is no verdict.
    Error(EvaluateError),
}

type Outcome = Result<PolicyAnswer, EvaluateError>;

/// Instances that one configured policy has at most: one for each call that can be under way, and
/// one that is ready when another is used up.
pub(super) fn capacity(host: &HostConfig, threads: usize) -> usize {
    threads + slow_threads(host, threads) + 1
}

// === impl EvaluateError ===

impl EvaluateError {
    /// Whether there was too little time, rather than something wrong.
    #[must_use]
    pub fn is_about_time(&self) -> bool {
        matches!(
            self,
            Self::Busy | Self::NoInstance | Self::Call(CallError::Timeout(_) | CallError::Late)
        )
    }
}

// === impl Configured ===

impl Configured {
    /// Asks a first instance whether it takes `settings`, JSON text, and starts the others.
    pub(super) fn new(
        prepared: &Prepared,
        settings: String,
        surroundings: Surroundings,
    ) -> Result<Arc<Self>, ConfigureError> {
        let Surroundings { host, threads, filler, share, ticker } = surroundings;
        let (capacity, slow_threads) = (capacity(&host, threads), slow_threads(&host, threads));
        let (instance, manifest) = start(prepared, &host, &settings, None)?;
        let configured = Arc::new_cyclic(|this| Self {
            prepared: prepared.clone(),
            host,
            settings,
            manifest,
            pool: Pool::new(AT_FIRST.min(threads + 1), capacity),
            share: Share::new(share, slow_threads),
            filler,
            is_asked: AtomicBool::new(false),
            _ticker: ticker,
            this: Weak::clone(this),
        });
        configured.pool.reserve();
        configured.seat(instance);
        while configured.pool.reserve() {
            let (instance, manifest) =
                start(&configured.prepared, &configured.host, &configured.settings, None)
                    .inspect_err(|_| configured.pool.release())?;
            if manifest != configured.manifest {
                configured.pool.release();
                return Err(ConfigureError::Unsteady);
            }
            configured.seat(instance);
        }
        Ok(configured)
    }

    /// Asks the policy on this thread. Whatever is not an answer has to go on in
    /// [`Configured::evaluate_later`].
    pub(super) fn evaluate_now(&self, input: &Input<'_>, budget: Budget) -> Attempt {
        if self.share.is_used_up() {
            return Attempt::Slow;
        }
        match self.pool.take() {
            Some(seated) => self.attempt(seated, input, budget),
            None => Attempt::NoInstance,
        }
    }

    /// Asks the policy as soon as there is an instance, and on its own thread if it is slow.
    pub(super) async fn evaluate_later(
        self: &Arc<Self>,
        mut attempt: Attempt,
        input: &Input<'_>,
        budget: Budget,
    ) -> Result<PolicyAnswer, Unanswered> {
        if matches!(attempt, Attempt::NoInstance) {
            let seated = self.instance(budget).await?;
            // Many may have waited, and the first of them may have used up the ration.
            attempt = if self.share.is_used_up() {
                self.pool.put(seated);
                Attempt::Slow
            } else {
                self.attempt(seated, input, budget)
            };
        }
        if let Attempt::Answered(outcome) = attempt {
            return outcome.map_err(Unanswered::Error);
        }
        let busy = Unanswered::Error(EvaluateError::Busy);
        let thread = self.share.thread(budget.until).await.ok_or(busy)?;
        let seated = self.instance(budget).await?;
        let (this, input) = (Arc::clone(self), OwnedInput::from(input));
        let call = spawn_blocking(move || {
            // Held until the call is over, even if the caller has gone away.
            let _thread = thread;
            let Some(turn) = this.share.turn(budget.until) else {
                this.pool.put(seated);
                return Err(EvaluateError::Busy);
            };
            this.call(seated, &input.as_input(), budget, Some(turn))
        });
        match call.await {
            Ok(outcome) => outcome.map_err(Unanswered::Error),
            Err(_) => Err(Unanswered::Error(EvaluateError::Failed("the host panicked".to_owned()))),
        }
    }

    /// Drops all instances, because another revision serves now.
    pub(super) fn retire(&self) {
        self.pool.close();
    }

    /// Asks the policy on this thread, for [`QUICK`] at most. A policy that needs longer has not
    /// answered; as it is a function of the request, asking it again does no harm.
    fn attempt(&self, seated: Seated, input: &Input<'_>, budget: Budget) -> Attempt {
        let outcome = self.call(seated, input, budget.at_most(QUICK), None);
        if !matches!(outcome, Err(EvaluateError::Call(CallError::Timeout(_)))) {
            return Attempt::Answered(outcome);
        }
        self.share.spend();
        if budget.processor > QUICK { Attempt::Slow } else { Attempt::Answered(outcome) }
    }

    fn call(
        &self,
        mut seated: Seated,
        input: &Input<'_>,
        budget: Budget,
        turn: Option<Turn>,
    ) -> Outcome {
        let instance = &mut seated.instance;
        let decision = convert::with_request(&self.manifest, input, |request| {
            instance.evaluate(request, budget, turn)
        })?;
        // Only an instance that returned is put back; `?` above drops one that did not.
        if instance.calls < self.host.instance_reuse {
            self.pool.put(seated);
        }
        decision
            .map(|decision| convert::answer(decision, &self.manifest, input))
            .map_err(|error| EvaluateError::Failed(text(error)))
    }

    /// Waits for an instance within the budget.
    async fn instance(&self, budget: Budget) -> Result<Seated, Unanswered> {
        if let Some(seated) = self.pool.take() {
            return Ok(seated);
        }
        self.pool.grow();
        self.ask_filler();
        self.pool.wait(budget.until).await.map_err(|none| match none {
            NoInstance::Closed => Unanswered::Replaced,
            NoInstance::Late => Unanswered::Error(EvaluateError::NoInstance),
        })
    }

    fn seat(&self, instance: Instance) {
        self.pool.put(Seated { instance, _seat: Seat(Weak::clone(&self.this)) });
    }

    fn ask_filler(&self) {
        if !self.is_asked.swap(true, SeqCst) {
            let this = Weak::clone(&self.this);
            self.filler.fill(this);
        }
    }
}

impl Fill for Configured {
    fn fill(&self) {
        // From here on, a request that finds none asks again.
        self.is_asked.store(false, SeqCst);
        while self.pool.reserve() {
            let turn = self.share.turn_to_start();
            match start(&self.prepared, &self.host, &self.settings, turn) {
                Ok((instance, manifest)) if manifest == self.manifest => self.seat(instance),
                failed => {
                    // Requests wait for one, and ask again; to go on trying here would be a loop.
                    self.pool.release();
                    let error = failed.err().unwrap_or(ConfigureError::Unsteady);
                    tracing::warn!(%error, digest = %self.prepared.digest, "cannot start a policy instance");
                    return;
                }
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(configured) = self.0.upgrade() {
            configured.pool.release();
            configured.ask_filler();
        }
    }
}

/// Starts an instance and gives it its settings, in turns with others if it has a turn.
fn start(
    prepared: &Prepared,
    host: &HostConfig,
    settings: &str,
    turn: Option<Turn>,
) -> Result<(Instance, Manifest), ConfigureError> {
    let budget = Budget::new(host.configure_deadline.get(), None);
    let mut instance = Instance::new(&prepared.pre, host, budget, turn)?;
    match instance.configure(settings, budget)? {
        Ok(manifest) => Ok((instance, Manifest::check(manifest)?)),
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
