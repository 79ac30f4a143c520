//! Owns the load beside a measurement: callers that ask without a pause until they are stopped.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::task::JoinSet;

use super::{LoadError, join, run_local, spawn};
use crate::{
    exchange::Caller,
    request::{Check, Expected},
};

/// What to ask, and how often at the same time.
pub(crate) struct Background {
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    /// The call to repeat.
    pub(crate) check: Arc<Check>,
    /// How many callers, each with a connection of its own.
    pub(crate) callers: usize,
    /// How long a call may take, as gRPC writes it, unless it is as usual.
    pub(crate) timeout: Option<&'static str>,
    /// What every answer should be, if that matters.
    pub(crate) expected: Option<Expected>,
    /// How long all of it may take.
    pub(crate) limit: Duration,
}

/// Callers that ask.
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Answers, LoadError>>,
}

/// What they were answered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answers {
    /// How many answers.
    pub(crate) all: u64,
    /// Those that were not as expected.
    pub(crate) wrong: u64,
}

// === impl Background ===

impl Background {
    /// Begins to ask, on a thread of its own.
    pub(crate) fn start(self) -> Result<Callers, LoadError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn("background", move || run_local(self.limit, self.ask(stopped)))?;
        Ok(Callers { stop, thread })
    }

    async fn ask(self, stopped: Arc<AtomicBool>) -> Result<Answers, LoadError> {
        let mut tasks = JoinSet::new();
        for _ in 0..self.callers {
            let mut caller = Caller::connect(self.address).await?;
            if let Some(timeout) = self.timeout {
                caller = caller.with_timeout(timeout);
            }
            let (check, stopped) = (Arc::clone(&self.check), Arc::clone(&stopped));
            let expected = self.expected;
            tasks.spawn_local(async move {
                let mut answers = Answers::default();
                while !stopped.load(Ordering::Relaxed) {
                    let answer = caller.call(check.frame.clone()).await?;
                    let is_wrong = |expected| check.verify(expected, &answer).is_err();
                    answers.all += 1;
                    answers.wrong += u64::from(expected.is_some_and(is_wrong));
                }
                Ok::<_, LoadError>(answers)
            });
        }
        let mut answers = Answers::default();
        while let Some(ended) = tasks.join_next().await {
            let Answers { all, wrong } = ended.unwrap_or(Err(LoadError::Panicked))?;
            answers.all += all;
            answers.wrong += wrong;
        }
        Ok(answers)
    }
}

// === impl Callers ===

impl Callers {
    /// Waits for the calls that are under way, and makes no more.
    pub(crate) fn stop(self) -> Result<Answers, LoadError> {
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)
    }
}
