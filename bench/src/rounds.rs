//! Schedule of the measurements: every server once per round, so that a temporary disturbance of
//! the machine affects all of them.

use std::time::Duration;

use crate::{
    load::{Closed, LoadError, Open, Target, closed_loop, open_loop},
    series::Series,
};

/// How long and how often to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// Number of rounds.
    pub(crate) rounds: usize,
    /// How long each loop is measured.
    pub(crate) window: Duration,
    /// The warm-up of each loop.
    pub(crate) warm_up: Duration,
    /// Calls per second in the open loop.
    pub(crate) rate: u32,
}

/// A server and its measurements, round by round.
pub(crate) struct Measured {
    /// The server's name.
    pub(crate) name: &'static str,
    /// The server and its calls.
    pub(crate) target: Target,
    closed: Vec<Closed>,
    open: Vec<Open>,
}

/// A round failed.
#[derive(Debug, thiserror::Error)]
#[error("{name}, {stage}: {source}")]
pub(crate) struct RoundError {
    /// The server's name.
    pub(crate) name: &'static str,
    stage: String,
    source: LoadError,
}

// === impl Schedule ===

impl Schedule {
    /// Measures all servers.
    pub(crate) fn run(&self, servers: &mut [Measured]) -> Result<(), RoundError> {
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            for server in &mut *servers {
                let closed = closed_loop(&server.target, self.warm_up, self.window);
                server.closed.push(closed.map_err(server.failed("closed loop", round))?);
                let open = open_loop(&server.target, self.rate, self.warm_up, self.window);
                server.open.push(open.map_err(server.failed("open loop", round))?);
            }
        }
        Ok(())
    }
}

// === impl Measured ===

impl Measured {
    /// Without measurements.
    pub(crate) fn new(name: &'static str, target: Target) -> Self {
        Self { name, target, closed: Vec::new(), open: Vec::new() }
    }

    /// Answers per second in the closed loop.
    pub(crate) fn requests_per_second(&self) -> Series {
        Series::new(self.closed.iter().map(|closed| closed.requests_per_second))
    }

    /// CPU time of the server per answer in the closed loop, in microseconds.
    pub(crate) fn cpu_us_per_request(&self) -> Series {
        Series::new(self.closed.iter().map(|closed| closed.cpu_us_per_request))
    }

    /// Median latency in the open loop, in microseconds.
    pub(crate) fn p50_us(&self) -> Series {
        Series::new(self.open.iter().map(|open| open.p50_us))
    }

    /// 99th percentile of the latency in the open loop, in microseconds.
    pub(crate) fn p99_us(&self) -> Series {
        Series::new(self.open.iter().map(|open| open.p99_us))
    }

    /// Throughput relative to `base`, within each round.
    pub(crate) fn throughput_ratio(&self, base: &Self) -> Series {
        let rounds = self.closed.iter().zip(&base.closed);
        Series::new(rounds.map(|(own, base)| own.requests_per_second / base.requests_per_second))
    }

    /// CPU time per answer relative to `base`, within each round.
    pub(crate) fn cpu_ratio(&self, base: &Self) -> Series {
        let rounds = self.closed.iter().zip(&base.closed);
        Series::new(rounds.map(|(own, base)| own.cpu_us_per_request / base.cpu_us_per_request))
    }

    fn failed(&self, stage: &str, round: usize) -> impl FnOnce(LoadError) -> RoundError + use<> {
        let (name, stage) = (self.name, format!("{stage} of round {round}"));
        move |source| RoundError { name, stage, source }
    }
}
