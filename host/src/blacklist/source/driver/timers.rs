//! Timers of the driver: what is due, the lease that it renews, a process that stood still, and a wall
//! clock that was set.

use std::time::{Duration, Instant};

use super::{Driver, Ended, LIVENESS};
use crate::{
    blacklist::{
        feed::FeedEvent,
        lease::LEASE,
        rabbitmq::BrokerError,
        redis::Reading,
        source::{notes::Notes, pulse::Beat, steps::Input, tasks},
    },
    boot_clock::BootInstant,
    timestamp::Timestamp,
};

/// How often the lease is renewed while the set is live.
const RENEWAL: Duration = Duration::from_millis(100);
/// After standing still for this long, what arrives may be old: the lease is renewed only when a
/// probe has come back.
const PAUSED: Duration = Duration::from_secs(1);

impl Driver {
    /// Does what is due.
    pub(super) async fn tick(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        self.look_at_clocks().await?;
        if self.connect_at.take_if(|at| *at <= now).is_some() {
            self.on(Input::ConnectDue).await?;
        }
        if self.snapshot_at.take_if(|at| *at <= now).is_some() {
            self.on(Input::SnapshotDue).await?;
        }
        if self.poll_at <= now && !self.tasks.poll.is_under_way() {
            self.poll();
        }
        if !self.tasks.removals.is_under_way() {
            self.ask_about_removals(now);
        }
        if self.renew_at <= now {
            self.renew_lease().await?;
        }
        self.beat(now).await
    }

    fn ask_about_removals(&mut self, now: Instant) {
        let due = self.removals.due(now);
        if !due.is_empty() {
            let redis = self.source.ends.redis.clone();
            self.tasks.removals.start(tasks::ask_about(redis, due));
        }
    }

    /// Looks whether the broker still delivers.
    async fn beat(&mut self, now: Instant) -> Result<(), Ended> {
        let sending_failed = self.sending_failed.take();
        let Some(session) = &self.session else { return Ok(()) };
        let blocked = session.is_blocked();
        if std::mem::replace(&mut self.was_blocked, blocked) != blocked {
            Notes::alarm(blocked);
        }
        if blocked {
            // In an alarm the broker takes no message from anyone, so that none can be missed, and no
            // probe comes back. It answers what is no message.
            self.pulse.pause(now);
            if self.liveness_at <= now && !self.tasks.liveness.is_under_way() {
                self.liveness_at = now + LIVENESS;
                self.tasks.liveness.start(session.liveness());
            }
        }
        if let Some(error) = sending_failed
            && !blocked
        {
            return self.lost(&error).await;
        }
        match self.pulse.beat(now) {
            Beat::Dead => {
                let silence = BrokerError::Silent(self.source.probes.timeout);
                self.lost(&silence).await
            }
            Beat::Late if self.source.core.is_live() => self.on(Input::Late).await,
            Beat::Probe => self.on(Input::ProbeDue).await,
            _ if self.source.core.awaits_probe() && self.pulse.is_probe_overdue(now) => {
                self.on(Input::ProbeDue).await
            }
            Beat::Late | Beat::Rest => Ok(()),
        }
    }

    /// Notices that the process stood still, or that the wall clock was set.
    async fn look_at_clocks(&mut self) -> Result<(), Ended> {
        let ticked_at = BootInstant::now();
        let paused = ticked_at.since(self.ticked_at);
        self.ticked_at = ticked_at;
        let offset = clock_offset();
        // What is less than this may be rounding, or a clock that is being adjusted.
        let skew = self.source.skew.max(PAUSED).as_millis();
        if u128::from(offset.abs_diff(self.clock_offset)) > skew {
            self.clock_offset = offset;
            tracing::warn!("the wall clock was set; the store is read again");
            // Expiries that were read before may be wrong.
            self.reading = Some(Reading::AllExpiries);
            self.snapshot_at = Some(Instant::now());
        }
        if paused < PAUSED {
            return Ok(());
        }
        tracing::warn!(
            ?paused,
            "the process stood still; the set is not believed until a probe is back"
        );
        self.on(Input::Paused).await
    }

    /// Tells readers that they may believe the set for some longer.
    pub(super) async fn renew_lease(&mut self) -> Result<(), Ended> {
        if !self.source.core.is_live() {
            return Ok(());
        }
        self.renew_at = Instant::now() + RENEWAL;
        self.tell(FeedEvent::Lease(self.ticked_at.plus(LEASE))).await
    }
}

/// How far the wall clock is ahead of the boot clock, in milliseconds.
pub(super) fn clock_offset() -> i64 {
    let boot = i64::try_from(BootInstant::now().as_millis()).unwrap_or(i64::MAX);
    Timestamp::now().as_millis().saturating_sub(boot)
}
