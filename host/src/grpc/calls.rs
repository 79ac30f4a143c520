//! Owns where the calls of one connection run: on the connection's own task, one after the other.
//!
//! A check takes microseconds and waits for nothing, so a task for each would cost more than the
//! check: to be scheduled, to be woken, and to wake the connection for every single answer. Here the
//! checks that arrive together are answered together. Where checks turn out to be slow, they get
//! tasks of their own after all, so that they do not stand in each other's way.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;

/// How many calls are made before their answers are sent.
const AT_ONCE: u32 = 32;
/// Calls that take longer than this on average are slow.
const SLOW: Duration = Duration::from_micros(250);
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

// === impl Calls ===

impl Calls {
    /// What makes the calls. There should be one for each connection.
    pub(super) fn caller(&self) -> Caller {
        Caller { calls: self.clone(), waiting: FuturesUnordered::new() }
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
            TokioExecutor::new().execute(call);
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
        while made < AT_ONCE {
            let Some(mut call) = self.calls.queue().begun.pop_front() else { break };
            if call.as_mut().poll(cx).is_pending() {
                self.waiting.push(call);
            }
            made += 1;
        }
        while let Poll::Ready(Some(())) = self.waiting.poll_next_unpin(cx) {
            made += 1;
        }
        let mut queue = self.calls.queue();
        if started.elapsed() > SLOW * made.max(1) {
            queue.slow_until = Some(Instant::now() + SLOW_FOR);
        }
        if !queue.begun.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
