//! Owns noticing that the whole machine stood still, or this program on it: a bound in milliseconds
//! says nothing about time in which nobody ran.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::history::{Clock, Span};

/// A thread that does nothing but wake up.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Span>>,
}

/// Between two awakenings.
const NAP: Duration = Duration::from_millis(1);
/// Waking up later than this is a stall.
const TOLERANCE: Duration = Duration::from_millis(4);

// === impl Watch ===

impl Watch {
    pub(super) fn start(clock: Clock) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || run(clock, &stopping)) }
    }

    pub(super) fn finish(self) -> Vec<Span> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread only sleeps")
    }
}

fn run(clock: Clock, stop: &AtomicBool) -> Vec<Span> {
    let mut stalls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let due = Instant::now() + NAP;
        thread::sleep(NAP);
        let woken = Instant::now();
        if woken > due + TOLERANCE {
            stalls.push(Span::new(clock.at(due), clock.at(woken)));
        }
    }
    stalls
}
