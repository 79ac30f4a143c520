//! Running a schedule: steps are executed one after the other while virtual time passes, and each
//! answer is judged.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{
    judge::{Answer, Moment, is_found, is_free},
    plan::{Schedule, Step, TOKENS},
    replica::Replica,
    world::{Net, World},
};
use crate::{
    ambient::Simulated,
    blacklist::Found,
    source::stream::sabotage::{self, Sabotage},
};

/// The outcome of a schedule.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Summary {
    /// How many checks were judged.
    pub(super) checks: usize,
    /// How many of them were allowed, by the set, by Redis, and by neither.
    pub(super) allowed: [usize; 3],
    /// For how long it would have run.
    pub(super) virtual_time: Duration,
}

/// A running schedule.
struct Run {
    net: Arc<Net>,
    replica: Option<Replica>,
    /// Checks that wait for a lookup in Redis.
    open: FuturesUnordered<BoxFuture<'static, (usize, Answer, Moment)>>,
    /// When the next checks are made that no step asks for.
    check_at: Instant,
    summary: Summary,
}

/// The interval of checks while the process is paused.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// The longest time without faults at the end: by then everything missed is found, and after any
/// fault the replica is live again.
const CALM: Duration = Duration::from_secs(19);

/// Runs a schedule, with a fault of the replica or without.
pub(super) fn run(schedule: &Schedule, sabotage: Option<Sabotage>) -> Result<Summary, String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    sabotage::set(sabotage);
    let ran = runtime.block_on(async {
        Simulated::begin(schedule.chance);
        let mut run = Run::new(schedule.chance);
        let ran = run.work(&schedule.steps).await;
        ran.map(|()| run.summary)
    });
    drop(runtime);
    Simulated::end();
    sabotage::set(None);
    ran
}

// === impl Run ===

impl Run {
    fn new(chance: u64) -> Self {
        Self {
            net: Arc::new(Net::new(chance)),
            replica: None,
            open: FuturesUnordered::new(),
            check_at: Instant::now(),
            summary: Summary::default(),
        }
    }

    async fn work(&mut self, steps: &[Step]) -> Result<(), String> {
        let began = Instant::now();
        for (at, step) in steps.iter().enumerate() {
            let taken = self.step(*step).await;
            taken.map_err(|what| format!("step {at}, {step:?}: {what}"))?;
        }
        let calmed = self.calm_down().await;
        self.summary.virtual_time = began.elapsed();
        calmed.map_err(|what| format!("all is well again: {what}"))
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        let now = self.net.world().now();
        match step {
            Step::Start => return self.start(),
            Step::Wait(millis) => return self.wait(Duration::from_millis(millis.into())).await,
            Step::Check => return self.check(Duration::ZERO),
            Step::Stop(true) => {
                self.net.world().stopped.get_or_insert(now);
                return Ok(());
            }
            Step::Stop(false) => return self.go_on(),
            Step::Suspend(millis) => return self.suspend(Duration::from_millis(millis.into())),
            Step::SetWall(wrong) => Simulated::set_wall(wrong),
            _ => self.net.change(|world| world.take(step, now)),
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        self.go_on()?;
        self.open.clear();
        self.replica = None;
        self.net.change(|world| {
            world.broker.end_session(false);
            world.broker.handed.clear();
            world.steady = None;
            world.was_trusted = false;
            world.starts += 1;
            let now = world.now();
            world.started = now;
            // It has to come to know everything first.
            world.broker_well = world.broker_well.map(|_| now);
            world.store_well = world.store_well.map(|_| now);
        });
        self.replica = Some(Replica::start(&self.net));
        self.check_at = Instant::now();
        Ok(())
    }

    /// Time passes, for the replica too unless it is paused.
    async fn wait(&mut self, duration: Duration) -> Result<(), String> {
        let end = Instant::now() + duration;
        loop {
            self.net.change(World::do_what_is_due);
            let now = self.net.world().now();
            let next = self.net.world().later.iter().map(|(at, _)| *at).min();
            let next = next.map_or(end, |at| Instant::now() + at.saturating_sub(now)).min(end);
            if self.net.world().stopped.is_some() {
                jump(next - Instant::now());
            } else {
                self.pass(next).await?;
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    async fn pass(&mut self, end: Instant) -> Result<(), String> {
        loop {
            tokio::select! {
                biased;
                Some((token, answer, moment)) = self.open.next() => {
                    self.judge(token, answer, &moment)?;
                }
                () = sleep_until(self.check_at.min(end)) => {
                    if self.check_at <= Instant::now() {
                        self.check_at = Instant::now() + CHECK_EVERY;
                        self.check(Duration::ZERO)?;
                    }
                    if end <= Instant::now() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Checks all tokens. The process was paused for so long just before.
    fn check(&mut self, paused: Duration) -> Result<(), String> {
        let Some(replica) = &mut self.replica else { return Ok(()) };
        if self.net.world().stopped.is_some() {
            return Ok(());
        }
        if replica.is_dead() {
            return Err("a task of the replica ended".to_owned());
        }
        let moment = Moment::new(&self.net.world(), paused);
        for (token, mut answer) in replica.check() {
            if let Some(answer) = (&mut answer).now_or_never() {
                self.judge(token, answer, &moment)?;
            } else {
                let moment = moment.clone();
                self.open.push(async move { (token, answer.await, moment) }.boxed());
            }
        }
        Ok(())
    }

    fn judge(&mut self, token: usize, answer: Answer, moment: &Moment) -> Result<(), String> {
        self.summary.checks += 1;
        match answer {
            Answer::Trusted => {
                self.net.world().was_trusted = true;
                self.summary.allowed[0] += 1;
            }
            Answer::Asked => self.summary.allowed[1] += 1,
            Answer::Unasked => self.summary.allowed[2] += 1,
            Answer::Revoked | Answer::Unavailable | Answer::NotReady => {}
        }
        moment.judge(&self.net.world(), token, answer)
    }

    fn go_on(&mut self) -> Result<(), String> {
        let stopped = self.net.world().stopped.take();
        let Some(began) = stopped else { return Ok(()) };
        self.woken(began)
    }

    fn suspend(&mut self, duration: Duration) -> Result<(), String> {
        if self.net.world().stopped.is_some() {
            return Ok(());
        }
        let began = self.net.world().now();
        Simulated::suspend(duration);
        self.net.change(World::do_what_is_due);
        self.woken(began)
    }

    fn woken(&mut self, began: Duration) -> Result<(), String> {
        let paused = self.net.change(|world| {
            let now = world.now();
            world.stops.push((began, now));
            world.steady = None;
            // Its lookups may have timed out, and its state is old.
            world.store_well = world.store_well.map(|_| now);
            now.saturating_sub(began)
        });
        // And once more when it has run.
        self.check_at = Instant::now() + Duration::from_millis(3);
        self.check(paused)
    }

    async fn calm_down(&mut self) -> Result<(), String> {
        self.go_on()?;
        self.net.change(World::heal);
        if self.replica.is_none() {
            self.start()?;
        }
        // What publishers have half done they end, and the relay runs.
        let end = Instant::now() + CALM;
        while Instant::now() < end && !self.is_settled() {
            self.net.change(World::relay);
            self.wait(Duration::from_secs(1)).await?;
        }
        if !self.is_settled() {
            return Err(format!("not settled: {:?}", self.unsettled()));
        }
        Ok(())
    }

    /// Whether the replica is live and every token is answered as is true.
    fn is_settled(&self) -> bool {
        self.unsettled().is_none()
    }

    /// What has yet to be answered as is true.
    fn unsettled(&self) -> Option<String> {
        let world = self.net.world();
        let replica = self.replica.as_ref()?;
        if !world.later.is_empty() || !world.store.outbox.is_empty() {
            return Some("publishers or the relay are active".to_owned());
        }
        let found = replica.find();
        let wrong = (0..TOKENS).find(|token| !settled(&world, *token, found[*token]));
        wrong.map(|token| format!("token {token} is {:?}", found[token]))
    }
}

// === impl World ===

impl World {
    fn take(&mut self, step: Step, now: Duration) {
        if matches!(step, Step::BrokerDies { .. } | Step::StreamDeleted | Step::CutBroker(_)) {
            self.steady = None;
        }
        let millis = |millis: u32| Duration::from_millis(millis.into());
        match step {
            Step::Revoke { token, way, gap } => self.publish(token, true, way, gap),
            Step::Remove { token, way, gap } => self.publish(token, false, way, gap),
            Step::Repeat { back } => self.repeat(back),
            Step::Relay => self.relay(),
            Step::BrokerDies { tail } => self.broker.die(tail),
            Step::BrokerBack { detour } => {
                if !std::mem::replace(&mut self.broker.up, true) {
                    self.broker.routes_at = Instant::now() + millis(detour);
                }
            }
            Step::StreamDeleted => self.broker.delete_stream(),
            Step::Unbind => self.broker.bound = false,
            Step::Alarm(alarm) => {
                self.broker.alarm = alarm;
                self.broker.read(now);
            }
            Step::Silence(silent) => {
                self.broker.silent = silent;
                self.broker.read(now);
            }
            Step::Delay(delay) => self.broker.delay = millis(delay),
            Step::CutBroker(cut) => {
                self.broker.linked = !cut;
                if cut {
                    self.broker.end_session(false);
                }
            }
            Step::RedisAway(away) => self.store.up = !away,
            Step::CutRedis(cut) => self.store.linked = !cut,
            Step::RedisSilent(silent) => self.store.silent = silent,
            Step::RedisSlow(slow) => self.store.slow = millis(slow),
            Step::Failover { lost } => {
                self.fail_over(lost);
                // What was under way is lost.
                self.store_well = self.store_well.map(|_| now);
            }
            Step::Start
            | Step::Wait(_)
            | Step::Check
            | Step::Stop(_)
            | Step::Suspend(_)
            | Step::SetWall(_) => {}
        }
    }
}

/// Whether the result of the set for a token is right.
fn settled(world: &World, token: usize, found: Found) -> bool {
    match found {
        Found::Clear => !is_found(world, token),
        Found::Revoked => token > 0 && !is_free(world, token),
        Found::Unknown { .. } | Found::Unreliable => false,
    }
}

/// Time passes, and nothing of this process runs.
fn jump(duration: Duration) {
    // The clock is set before the first pause; the pause itself is what must not be made.
    let _ = Box::pin(tokio::time::advance(duration)).now_or_never();
}
