//! Owns where the calls of one connection run: on the connection's own task, one after the other.
//!
//! A check takes microseconds and hardly ever waits, so a task for each would cost more than the
//! check: to be scheduled, to be woken, and to wake the connection for every single answer. Here the
//! checks that arrive together are answered together. Where checks turn out to be slow, they get
//! tasks of their own after all, so that they do not stand in each other's way; those that have
//! arrived already as well.

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

/// How many calls are made before their answers are sent.
const AT_ONCE: u32 = 32;
/// How many calls may have begun and wait to be looked at while more are read.
const BACKLOG: usize = 1024;
/// Calls that take longer than this on average are slow.
const SLOW: Duration = Duration::from_micros(250);
/// After this long, the calls that are left get tasks of their own: so much of a proxy's patience may
/// be spent on the slow ones before them.
const HOLD_UP: Duration = Duration::from_millis(2);
/// How long calls have tasks of their own once some were slow.
const SLOW_FOR: Duration = Duration::from_secs(1);

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection puts its calls. Clones share the place.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    /// Calls that have not been looked at yet.
    begun: VecDeque<Call>,
    slow_until: Option<Instant>,
}

/// Makes the calls of one connection, on whatever task polls it.
pub(super) struct Caller {
    calls: Calls,
    /// Calls that wait for something.
    waiting: FuturesUnordered<Call>,
}

/// What a connection reads from: its socket, for as long as its calls keep up.
///
/// HTTP/2 limits the calls that are under way, but one that the peer has cancelled is under way no
/// more, and still here. A peer that cancels what it has begun, to begin more, would fill the memory.
pub(super) struct Throttled<R> {
    socket: R,
    calls: Calls,
}

// === impl Calls ===

impl Calls {
    /// What makes the calls. There should be one for each connection.
    pub(super) fn caller(&self) -> Caller {
        Caller { calls: self.clone(), waiting: FuturesUnordered::new() }
    }

    /// Reads from `socket`, on the task that makes the calls.
    pub(super) fn throttle<R>(&self, socket: R) -> Throttled<R> {
        Throttled { socket, calls: self.clone() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Only the connection's own task comes here. A panic cannot leave a queue in a bad state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        let mut queue = self.queue();
        if queue.slow_until.is_some_and(|until| Instant::now() < until) {
            elsewhere(call);
        } else {
            // A panic is to end its own stream, and not all streams of the connection.
            let call = AssertUnwindSafe(call).catch_unwind();
            queue.begun.push_back(Box::pin(call.map(drop)));
        }
    }
}

// === impl Caller ===

impl Caller {
    /// Makes the calls, for as long as it is polled.
    pub(super) async fn run(&mut self) -> Infallible {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        let started = Instant::now();
        let mut made = 0;
        while started.elapsed() <= HOLD_UP && self.make_one(made < AT_ONCE, cx) {
            made += 1;
        }
        let took = started.elapsed();
        let mut queue = self.calls.queue();
        if took > SLOW * made.max(1) {
            queue.slow_until = Some(Instant::now() + SLOW_FOR);
        }
        if took > HOLD_UP {
            queue.begun.drain(..).chain(mem::take(&mut self.waiting)).for_each(elsewhere);
        }
        if !queue.begun.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Makes a new call, if that may be, or goes on with one that has waited. Says whether there was
    /// one.
    fn make_one(&mut self, may_begin: bool, cx: &mut Context<'_>) -> bool {
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

/// Has a task of its own make the call.
fn elsewhere(call: impl Future<Output = ()> + Send + 'static) {
    TokioExecutor::new().execute(call);
}

impl Drop for Caller {
    fn drop(&mut self) {
        // Each call knows its place, for those that it might begin itself: calls that nobody makes any
        // more would keep each other alive, and all that is left of their connection.
        let begun = mem::take(&mut self.calls.queue().begun);
        drop(begun);
    }
}

// === impl Throttled ===

impl<R: AsyncRead + Unpin> AsyncRead for Throttled<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.calls.queue().begun.len() > BACKLOG {
            // Before this is asked again, the task makes some of the calls.
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
        caller: Caller,
        permits: Arc<Semaphore>,
        made: Arc<AtomicUsize>,
    }

    impl Scene {
        fn new(permits: usize) -> Self {
            let (calls, made) = (Calls::default(), Arc::<AtomicUsize>::default());
            let permits = Arc::new(Semaphore::new(permits));
            for _ in 0..CALLS {
                let (permits, made) = (Arc::clone(&permits), Arc::clone(&made));
                calls.execute(async move {
                    let _permit = permits.acquire().await.expect("nobody closes it");
                    let begin = Instant::now();
                    while begin.elapsed() <= HOLD_UP {
                        std::hint::spin_loop();
                    }
                    made.fetch_add(1, SeqCst);
                });
            }
            Self { caller: calls.caller(), permits, made }
        }

        /// Lets the connection's task make calls once, and says how many it made.
        async fn poll(&mut self) -> usize {
            let before = self.made.load(SeqCst);
            poll_fn(|cx| {
                assert!(self.caller.poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            self.made.load(SeqCst) - before
        }

        /// The others are made, although nobody polls the connection any more.
        async fn all_are_made(&self) {
            while self.made.load(SeqCst) < CALLS {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn those_that_came_with_a_slow_call_get_tasks_of_their_own() {
        let mut scene = Scene::new(CALLS);
        assert!(scene.poll().await <= 1);
        scene.all_are_made().await;
    }

    #[tokio::test]
    async fn so_do_those_that_waited_with_a_slow_call() {
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
        // A busy machine may have some of the calls made elsewhere, which needs a runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let calls = Calls::default();
        let (mut caller, mut socket) = (calls.caller(), calls.throttle(tokio::io::repeat(0)));
        for _ in 0..=BACKLOG {
            assert!(is_readable(&mut socket));
            calls.execute(ready(()));
        }
        assert!(!is_readable(&mut socket));
        let made = caller.poll(&mut Context::from_waker(Waker::noop()));
        assert!(made.is_pending() && is_readable(&mut socket));
    }

    #[test]
    fn calls_that_were_never_made_are_gone_with_their_caller() {
        let (calls, memory) = (Calls::default(), Arc::new(()));
        let caller = calls.caller();
        let call = (calls.clone(), Arc::clone(&memory));
        calls.execute(async move { drop(call) });
        drop((caller, calls));
        assert_eq!(Arc::strong_count(&memory), 1);
    }
}
