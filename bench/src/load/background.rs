//! Background load during a measurement: callers that send without a pause until they are stopped.

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

/// The call, and the number of concurrent callers.
pub(crate) struct Background {
    /// The address of the server.
    pub(crate) address: SocketAddr,
    /// The call to repeat.
    pub(crate) check: Arc<Check>,
    /// The number of callers, each with its own connection.
    pub(crate) callers: usize,
    /// The timeout of a call in the format of gRPC, unless it is the default.
    pub(crate) timeout: Option<&'static str>,
    /// The expected answer, if it matters.
    pub(crate) expected: Option<Expected>,
    /// The timeout of the whole load.
    pub(crate) limit: Duration,
}

/// Running callers.
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Answers, LoadError>>,
}

/// The counts of the answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answers {
    /// The number of answers.
    pub(crate) all: u64,
    /// The number of unexpected answers.
    pub(crate) wrong: u64,
}

// === impl Background ===

impl Background {
    /// Starts the callers, on a separate thread.
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
    /// Stops the callers, and waits for the calls in flight.
    pub(crate) fn stop(self) -> Result<Answers, LoadError> {
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)
    }
}
