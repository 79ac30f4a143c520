//! Stall detector and load sampler: records when the whole machine, or this process, did not run. A
//! bound in milliseconds means nothing for that time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    history::History,
    load::Load,
    moment::{Clock, Span},
};

/// A thread that wakes up regularly.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<History>,
}

/// Between two wake-ups.
const NAP: Duration = Duration::from_millis(1);
/// A wake-up that is later than this is a stall.
const TOLERANCE: Duration = Duration::from_millis(4);
/// Between two samples of the load.
const SAMPLE: Duration = Duration::from_millis(20);

// === impl Watch ===

impl Watch {
    pub(super) fn start(clock: Clock) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || run(clock, &stopping)) }
    }

    pub(super) fn finish(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread only sleeps")
    }
}

fn run(clock: Clock, stop: &AtomicBool) -> History {
    let (mut stalls, mut load) = (Vec::new(), Load::default());
    let mut sampled: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        let due = Instant::now() + NAP;
        thread::sleep(NAP);
        let woken = Instant::now();
        if woken > due + TOLERANCE {
            stalls.push(Span::new(clock.at(due), clock.at(woken)));
        }
        if sampled.is_none_or(|at| woken.duration_since(at) >= SAMPLE) {
            sampled = Some(woken);
            load.sample(clock.at(woken));
        }
    }
    History { stalls, load, ..History::default() }
}
