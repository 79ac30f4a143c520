//! Shutdown of tasks: tracking which tasks run, signalling them to stop, and waiting for them.
//!
//! Every task of Portcullis is spawned here, so that none outlives the app and none ends unnoticed.

use std::{future::Future, io, thread, time::Duration};

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Spawns tasks and signals them to stop. Clones share their state.
#[derive(Debug, Clone)]
pub struct Drain {
    tasks: TaskTracker,
    stop: CancellationToken,
    failures: mpsc::UnboundedSender<TaskDied>,
}

/// Receives the names of tasks that ended before the drain began.
#[derive(Debug)]
pub struct DeadTasks(mpsc::UnboundedReceiver<TaskDied>);

/// A task ended before the drain began.
#[derive(Debug, thiserror::Error)]
#[error("task `{0}` died unexpectedly; see the log lines before this one")]
pub struct TaskDied(&'static str);

/// Makes the drain and the receiver for dead tasks.
#[must_use]
pub fn pair() -> (Drain, DeadTasks) {
    let (failures, dead) = mpsc::unbounded_channel();
    let drain = Drain { tasks: TaskTracker::new(), stop: CancellationToken::new(), failures };
    (drain, DeadTasks(dead))
}

// === impl Drain ===

impl Drain {
    /// Spawns `task`. It should end soon after [`Drain::stopping`] resolves; if it ends or panics
    /// before that, [`DeadTasks::next`] reports it under `name`.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that spawns, so that every task is tracked"
    )]
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let report = ReportDeath { name, drain: self.clone() };
        tokio::spawn(self.tasks.track_future(async move {
            // Dropped when the task ends, by returning as well as by unwinding.
            let _report = report;
            task.await;
        }));
    }

    /// Runs the tasks that `spawn` spawns on a dedicated thread, so that they make progress however
    /// busy the others are. The thread ends when all tasks have.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn spawn_on_thread(
        &self,
        name: &'static str,
        spawn: impl FnOnce(&Self) + Send + 'static,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let drain = self.clone();
        let run = move || {
            runtime.block_on(async {
                spawn(&drain);
                drain.tasks.wait().await;
            });
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }

    /// Runs `work` to its end, even if the caller does not wait for it, and returns its result; `None`
    /// if it panics. The drain waits for it too.
    #[expect(clippy::disallowed_methods, reason = "as in `spawn`")]
    pub async fn finish<T>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(work)).await.ok()
    }

    /// Resolves when tasks are to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether tasks are to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Signals every task to stop, and waits until they have, for at most `timeout`. Returns the
    /// number of tasks that are still running then.
    pub async fn drain(&self, timeout: Duration) -> usize {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(timeout, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        self.tasks.len()
    }
}

// === impl DeadTasks ===

impl DeadTasks {
    /// The next task that died; pending for ever if none does.
    pub async fn next(&mut self) -> TaskDied {
        match self.0.recv().await {
            Some(died) => died,
            None => std::future::pending().await,
        }
    }
}

/// Reports a death unless the drain has begun.
struct ReportDeath {
    name: &'static str,
    drain: Drain,
}

impl Drop for ReportDeath {
    fn drop(&mut self) {
        if !self.drain.is_stopping() {
            // The receiver is dropped only with the app, which then needs no report.
            let _ = self.drain.failures.send(TaskDied(self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_to_be_finished_goes_on_without_its_caller() {
        let (drain, _dead) = pair();
        assert_eq!(drain.finish(async { 1 }).await, Some(1));
        assert_eq!(drain.finish(async { panic!("boom") }).await, None::<()>);
        let (sender, done) = tokio::sync::oneshot::channel();
        let work = async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send(()).unwrap();
        };
        let waited = tokio::time::timeout(Duration::from_millis(1), drain.finish(work)).await;
        assert!(waited.is_err());
        assert_eq!(drain.drain(Duration::from_secs(5)).await, 0, "the drain waits");
        done.await.unwrap();
    }

    #[tokio::test]
    async fn a_panicking_task_is_reported_by_name() {
        let (drain, mut dead) = pair();
        drain.spawn("feed", async { panic!("boom") });
        assert_eq!(
            dead.next().await.to_string(),
            "task `feed` died unexpectedly; see the log lines before this one"
        );
    }

    #[tokio::test]
    async fn draining_waits_for_tasks_and_reports_no_death() {
        let (drain, mut dead) = pair();
        let stopping = drain.clone();
        drain.spawn("worker", async move { stopping.stopping().await });
        assert_eq!(drain.drain(Duration::from_secs(5)).await, 0);
        let quiet = tokio::time::timeout(Duration::from_millis(1), dead.next()).await;
        assert!(quiet.is_err());
    }

    #[tokio::test]
    async fn tasks_on_a_thread_of_their_own_go_on_while_others_are_busy() {
        let (drain, mut dead) = pair();
        let (beats, beat) = std::sync::mpsc::channel();
        let task = |drain: &Drain| {
            let stopping = drain.clone();
            drain.spawn("feed", async move {
                beats.send(thread::current().name().map(str::to_owned)).unwrap();
                stopping.stopping().await;
            });
            drain.spawn("fault", async { panic!("boom") });
        };
        drain.spawn_on_thread("own", task).unwrap();
        // This blocks the only other thread.
        let name = beat.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(name.as_deref(), Some("own"));
        assert!(dead.next().await.to_string().contains("`fault`"));
        assert_eq!(drain.drain(Duration::from_secs(5)).await, 0);
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_counted() {
        let (drain, _dead) = pair();
        drain.spawn("stuck", std::future::pending());
        assert_eq!(drain.drain(Duration::from_millis(1)).await, 1);
    }
}
