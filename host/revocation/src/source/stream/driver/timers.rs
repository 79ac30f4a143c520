//! Timers of the driver: due actions, renewal of the lease, pauses of the process, and jumps of the
//! wall clock.

use std::time::Duration;

use portcullis_runtime::{boot_clock::BootInstant, failpoint};
use tokio::time::Instant;

use super::{Driver, FeedEnded, LIVENESS_INTERVAL};
use crate::{
    ambient,
    blacklist::lease::LEASE,
    feed::FeedEvent,
    rabbitmq::BrokerError,
    random,
    redis::SnapshotKind,
    source::stream::{
        probe_timer::{Liveness, clock},
        sabotage::{self, Sabotage},
        steps::Input,
        stream_log::StreamLog,
        tasks,
    },
};

/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_millis(100);
/// Wrong on purpose, for tests: the lease never ends.
const NO_LEASE: &str = "feed::no-lease";
/// After a pause of this length, messages that arrive may be old: the set is complete again only after
/// a probe has come back. It is shorter than the lease, so a lapse by a pause never goes unnoticed.
const PAUSED: Duration = Duration::from_secs(1);

impl Driver {
    /// Performs due actions.
    pub(super) async fn tick(&mut self) -> Result<(), FeedEnded> {
        let now = Instant::now();
        self.check_clocks().await?;
        if self.connect_at.take_if(|at| *at <= now).is_some() {
            self.on(Input::ConnectDue).await?;
        }
        if self.snapshot_at.take_if(|at| *at <= now).is_some() {
            self.on(Input::SnapshotDue).await?;
        }
        if self.poll_at <= now && !self.tasks.poll.is_in_progress() {
            self.poll();
        }
        if !self.tasks.unrevocations.is_in_progress() {
            self.ask_about_unrevocations(now);
        }
        if self.renew_at <= now {
            self.renew_lease().await?;
        }
        self.check_liveness(now).await
    }

    fn ask_about_unrevocations(&mut self, now: Instant) {
        let due = self.unrevocations.due(now);
        if !due.is_empty() {
            let deps = &self.source.deps;
            let (redis, outbox) = (deps.redis.clone(), deps.outbox.clone());
            self.tasks.unrevocations.start(tasks::ask_about(redis, outbox, due));
        }
    }

    /// Checks whether the broker still delivers.
    async fn check_liveness(&mut self, now: Instant) -> Result<(), FeedEnded> {
        let sending_failed = self.sending_failed.take();
        let Some(session) = &self.session else { return Ok(()) };
        let blocked = session.is_blocked();
        if std::mem::replace(&mut self.was_blocked, blocked) != blocked {
            StreamLog::alarm(blocked);
        }
        if blocked {
            // During an alarm the broker accepts no messages, so that none can be missed, and no
            // probe comes back. It still answers other requests.
            self.probe_timer.pause(now);
            if self.liveness_at <= now && !self.tasks.liveness.is_in_progress() {
                self.liveness_at = now + LIVENESS_INTERVAL;
                self.tasks.liveness.start(session.liveness());
            }
            self.on(Input::Blocked).await?;
        } else if let Some(error) = sending_failed {
            return self.lost(&error).await;
        }
        match self.probe_timer.liveness(now, clock()) {
            Liveness::Lost => {
                let silence = BrokerError::Silent(self.source.probes.timeout);
                self.lost(&silence).await
            }
            Liveness::Late if self.source.state.acts_on_delay() => self.on(Input::Late).await,
            Liveness::ProbeDue => self.on(Input::ProbeDue).await,
            _ if self.source.state.awaits_probe() && self.probe_timer.is_probe_overdue(now) => {
                self.on(Input::ProbeDue).await
            }
            Liveness::Late | Liveness::Alive => Ok(()),
        }
    }

    /// Sends a probe. A failure is handled at the next check of the timers.
    pub(super) async fn probe(&mut self, number: u64) {
        // During an alarm the broker would not read it.
        let Some(session) = self.session.as_ref().filter(|session| !session.is_blocked()) else {
            return;
        };
        let probe = self.probe_timer.send(number, Instant::now(), clock(), random::random_byte());
        match session.send_to_self(&probe.write()).await {
            Ok(taken) => self.tasks.probing.start(taken),
            Err(error) => self.sending_failed = Some(error),
        }
    }

    /// Detects that the process was paused, or that the wall clock was set.
    async fn check_clocks(&mut self) -> Result<(), FeedEnded> {
        let ticked_at = ambient::boot();
        let paused = ticked_at.since(self.ticked_at);
        self.ticked_at = ticked_at;
        let offset = ambient::clock_offset();
        // Smaller differences may be rounding, or a clock that is being slewed.
        let skew = self.source.skew.max(PAUSED).as_millis();
        if u128::from(offset.abs_diff(self.clock_offset)) > skew {
            self.clock_offset = offset;
            tracing::warn!("wall clock jumped; resnapshotting");
            // Expiries that were read before may be wrong, so all are read again.
            self.reading = Some(SnapshotKind::AllExpiries);
            self.snapshot_at = Some(Instant::now());
        }
        if paused < PAUSED || sabotage::is_on(Sabotage::RenewAtOnce) {
            return Ok(());
        }
        tracing::warn!(?paused, "process was paused; not live until a probe returns");
        self.on(Input::Paused).await
    }

    /// Renews the lease of the set.
    pub(super) async fn renew_lease(&mut self) -> Result<(), FeedEnded> {
        if !self.source.state.renews_lease() {
            return Ok(());
        }
        self.renew_at = Instant::now() + RENEWAL;
        let forever = failpoint::is_on(NO_LEASE) || sabotage::is_on(Sabotage::NoLease);
        let end = if forever { BootInstant::NEVER } else { self.ticked_at.plus(LEASE) };
        self.send(FeedEvent::Lease(end)).await
    }
}
