//! Call scheduling of one connection: calls run on the connection's own task, in batches.
//!
//! A check takes microseconds and hardly ever waits, so a task for each would cost more than the
//! check: to be scheduled, to be woken, and to wake the connection for every single answer. Here
//! the checks that arrive together are answered together. Where checks turn out to be slow, they
//! are spilled: each gets its own task, so that no call blocks another. That includes the calls
//! that have already arrived.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, poll_fn},
    io, mem,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncRead, ReadBuf};

/// How many calls are polled before their answers are sent.
const MAX_BATCH: u32 = 32;
/// How many calls may have begun and wait for their first poll while more are read.
const BACKLOG: usize = 1024;
/// Calls that take longer than this on average are slow.
const SLOW: Duration = Duration::from_micros(250);
/// After this long, the calls that are left are spilled: they may lose so much of a proxy's timeout
/// to the slow ones before them.
const SPILL_AFTER: Duration = Duration::from_millis(2);
/// How long new calls are spilled at once after some were slow.
const SPILL_FOR: Duration = Duration::from_secs(1);

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The new calls of a connection. Clones share the queue.
#[derive(Clone, Default)]
pub(super) struct CallQueue(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    /// Calls that have not been polled yet.
    begun: VecDeque<Call>,
    slow_until: Option<Instant>,
}

/// Runs the calls of one connection, on the task that polls it.
pub(super) struct CallRunner {
    calls: CallQueue,
    /// Calls that wait for something.
    waiting: FuturesUnordered<Call>,
}

/// What a connection reads from: its socket, for as long as its calls keep up.
///
/// HTTP/2 limits the calls that are under way, but one that the peer has cancelled is under way no
/// more, and still here. A peer that cancels what it has begun, to begin more, would fill the memory.
pub(super) struct ThrottledReader<R> {
    socket: R,
    calls: CallQueue,
}

// === impl CallQueue ===

impl CallQueue {
    /// The runner of the calls. There should be one for each connection.
    pub(super) fn runner(&self) -> CallRunner {
        CallRunner { calls: self.clone(), waiting: FuturesUnordered::new() }
    }

    /// Reads from `socket`, on the task that runs the calls.
    pub(super) fn throttle<R>(&self, socket: R) -> ThrottledReader<R> {
        ThrottledReader { socket, calls: self.clone() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Only the connection's own task locks it. A panic cannot leave a queue in a bad state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for CallQueue {
    fn execute(&self, call: F) {
        let mut queue = self.queue();
        if queue.slow_until.is_some_and(|until| Instant::now() < until) {
            spawn_detached(call);
        } else {
            // A panic is to end its own stream, and not all streams of the connection.
            let call = AssertUnwindSafe(call).catch_unwind();
            queue.begun.push_back(Box::pin(call.map(drop)));
        }
    }
}

// === impl CallRunner ===

impl CallRunner {
    /// Runs the calls, for as long as it is polled.
    pub(super) async fn run(&mut self) -> Infallible {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        let started = Instant::now();
        let mut made = 0;
        while started.elapsed() <= SPILL_AFTER && self.poll_one(made < MAX_BATCH, cx) {
            made += 1;
        }
        let took = started.elapsed();
        let mut queue = self.calls.queue();
        if took > SLOW * made.max(1) {
            queue.slow_until = Some(Instant::now() + SPILL_FOR);
        }
        if took > SPILL_AFTER {
            queue.begun.drain(..).chain(mem::take(&mut self.waiting)).for_each(spawn_detached);
        }
        if !queue.begun.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Polls a new call, if it may begin one, or a call that has waited. Returns whether there was
    /// one.
    fn poll_one(&mut self, may_begin: bool, cx: &mut Context<'_>) -> bool {
        let begun = if may_begin { self.calls.queue().begun.pop_front() } else { None };
        let Some(mut call) = begun else {
            return matches!(self.waiting.poll_next_unpin(cx), Poll::Ready(Some(())));
        };
        if call.as_mut().poll(cx).is_pending() {
            self.waiting.push(call);
        }
        true
    }
}

/// Runs the call on its own task.
fn spawn_detached(call: impl Future<Output = ()> + Send + 'static) {
    TokioExecutor::new().execute(call);
}

impl Drop for CallRunner {
    fn drop(&mut self) {
        // Each call holds the queue, for calls that it might begin itself. So calls that are never
        // polled again would keep each other alive, and with them the rest of their connection.
        let begun = mem::take(&mut self.calls.queue().begun);
        drop(begun);
    }
}

// === impl ThrottledReader ===

impl<R: AsyncRead + Unpin> AsyncRead for ThrottledReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.calls.queue().begun.len() > BACKLOG {
            // Before it is polled again, the task runs some of the calls.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Waker,
    };

    use tokio::{sync::Semaphore, task::yield_now};

    use super::*;

    const CALLS: usize = 8;

    /// A connection with calls that each need a permit, and then keep their thread busy.
    struct Scene {
        runner: CallRunner,
        permits: Arc<Semaphore>,
        made: Arc<AtomicUsize>,
    }

    impl Scene {
        fn new(permits: usize) -> Self {
            let (calls, made) = (CallQueue::default(), Arc::<AtomicUsize>::default());
            let permits = Arc::new(Semaphore::new(permits));
            for _ in 0..CALLS {
                let (permits, made) = (Arc::clone(&permits), Arc::clone(&made));
                calls.execute(async move {
                    let _permit = permits.acquire().await.expect("it is never closed");
                    let begin = Instant::now();
                    while begin.elapsed() <= SPILL_AFTER {
                        std::hint::spin_loop();
                    }
                    made.fetch_add(1, SeqCst);
                });
            }
            Self { runner: calls.runner(), permits, made }
        }

        /// Polls the connection's task once, and returns how many calls it completed.
        async fn poll(&mut self) -> usize {
            let before = self.made.load(SeqCst);
            poll_fn(|cx| {
                assert!(self.runner.poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            self.made.load(SeqCst) - before
        }

        /// The others complete, although the connection is polled no more.
        async fn all_are_made(&self) {
            while self.made.load(SeqCst) < CALLS {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn calls_that_came_with_a_slow_one_are_spilled() {
        let mut scene = Scene::new(CALLS);
        assert!(scene.poll().await <= 1);
        scene.all_are_made().await;
    }

    #[tokio::test]
    async fn waiting_calls_are_spilled_with_a_slow_one() {
        let mut scene = Scene::new(0);
        assert_eq!(scene.poll().await, 0);
        scene.permits.add_permits(CALLS);
        assert!(scene.poll().await <= 1);
        scene.all_are_made().await;
    }

    fn is_readable(socket: &mut (impl AsyncRead + Unpin)) -> bool {
        let mut buffer = [0];
        let read = Pin::new(socket)
            .poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut buffer));
        read.is_ready()
    }

    #[test]
    fn nothing_is_read_while_too_many_calls_have_begun() {
        // On a busy machine some of the calls may be spilled, which needs a runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let calls = CallQueue::default();
        let (mut runner, mut socket) = (calls.runner(), calls.throttle(tokio::io::repeat(0)));
        for _ in 0..=BACKLOG {
            assert!(is_readable(&mut socket));
            calls.execute(ready(()));
        }
        assert!(!is_readable(&mut socket));
        let made = runner.poll(&mut Context::from_waker(Waker::noop()));
        assert!(made.is_pending() && is_readable(&mut socket));
    }

    #[test]
    fn calls_that_were_never_polled_are_dropped_with_their_runner() {
        let (calls, memory) = (CallQueue::default(), Arc::new(()));
        let runner = calls.runner();
        let call = (calls.clone(), Arc::clone(&memory));
        calls.execute(async move { drop(call) });
        drop((runner, calls));
        assert_eq!(Arc::strong_count(&memory), 1);
    }
}
