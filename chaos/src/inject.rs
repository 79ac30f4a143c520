//! Injection and healing of planned faults, alone or two at once.
//!
//! Each fault is recorded from before it begins until everything has recovered, so that none of its
//! effects fall into time that counts as quiet.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    fault::FaultKind,
    history::{Fault, History},
    moment::{Clock, Moment, Span},
    plan::PlannedFault,
    site::{Broken, Site},
};

/// A fault of a group, and its progress.
struct Injected {
    planned: PlannedFault,
    /// When its next step is due.
    due: Instant,
    began: Option<Moment>,
    healed: Option<Moment>,
    broken: Broken,
}

/// Injects the faults of a group, heals them, and waits until everything has recovered.
pub async fn inject(site: &mut impl Site, group: &[PlannedFault], clock: Clock) -> History {
    let began = Instant::now();
    let mut injected: Vec<_> = group
        .iter()
        .map(|planned| Injected {
            planned: *planned,
            due: began + planned.after,
            began: None,
            healed: None,
            broken: Broken::default(),
        })
        .collect();
    while let Some(next) =
        injected.iter_mut().filter(|one| one.healed.is_none()).min_by_key(|one| one.due)
    {
        tokio::time::sleep_until(next.due).await;
        if next.began.is_none() {
            next.began = Some(clock.now());
            next.broken = site.break_one(&next.planned).await;
            next.due = Instant::now() + lasts(&next.planned);
        } else {
            site.heal(&next.planned, &next.broken).await;
            next.healed = Some(clock.now());
        }
    }
    site.recovered().await;
    history_of(&injected, clock.now())
}

/// How long a fault lasts after its injection. Some are over at once.
fn lasts(planned: &PlannedFault) -> Duration {
    match planned.kind {
        FaultKind::RelayKilled | FaultKind::ReplicaKilledAtStart => planned.lasts / 4,
        FaultKind::StreamDeleted
        | FaultKind::QueueDeleted
        | FaultKind::RedisKilled
        | FaultKind::SentinelFailover
        | FaultKind::RedisFlushed
        | FaultKind::Flood => Duration::ZERO,
        _ => planned.lasts,
    }
}

fn history_of(injected: &[Injected], recovered: Moment) -> History {
    let mut history = History::default();
    for one in injected {
        let PlannedFault { kind, replica, .. } = one.planned;
        let span = Span::new(one.began.unwrap_or_default(), recovered);
        if matches!(kind, FaultKind::ReplicaKilled | FaultKind::ReplicaKilledAtStart) {
            // The replica was killed, and is ready again now.
            history.deaths.push((replica, span));
        }
        let replica = kind.affects_one().then_some(replica);
        let healed = one.healed.unwrap_or(recovered);
        history.faults.push(Fault { kind, replica, span, healed });
    }
    history
}
