//! The judge: which answers a check of each token may get, by what was acknowledged and by the
//! bounds that `docs/revocation.md` promises.

use std::time::Duration;

use super::{
    plan::TOKENS,
    world::{Truth, World},
};

/// The answer to a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Allowed: the set may be trusted, and does not hold the token.
    Trusted,
    /// Allowed: looked up in Redis, which holds no revocation of it.
    Asked,
    /// Allowed although Redis did not answer.
    Unasked,
    /// Denied: it is revoked.
    Revoked,
    /// Denied: Redis did not answer.
    Unavailable,
    /// Denied: the set must not be relied upon.
    NotReady,
}

/// The state of the world when a check began.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    began: Duration,
    /// How long the process had been paused, if nothing else has run since.
    paused: Duration,
    versions: [u64; TOKENS],
    primary: u64,
    store_well: Option<Duration>,
    /// Why each token must not be allowed, by the set alone, and without an answer of Redis.
    late: [Option<String>; TOKENS],
    late_unasked: [Option<String>; TOKENS],
    /// Whether Redis holds a revocation of it.
    held: [bool; TOKENS],
    /// Whether the replica has to be live.
    live: bool,
}

/// The configuration of the replica, as far as bounds depend on it.
pub(super) const INTERVAL: Duration = Duration::from_secs(15);
pub(super) const MAX_STALENESS: Duration = Duration::from_secs(8);
/// The lease of the set: after a pause of this length, readers do not trust it.
pub(super) const LEASE: Duration = Duration::from_millis(1_500);

/// Until delivered messages are applied, and until missing deliveries are noticed.
const PROMPT: Duration = Duration::from_millis(300);
/// Twice `probe_timeout`, and some.
const NOTICED: Duration = Duration::from_millis(3_300);
/// Faults last as long as their consequences.
const AFTERMATH: Duration = Duration::from_secs(5);
/// The outbox is read each second, and may take another.
const POLLED: Duration = Duration::from_millis(2_300);
/// A failed reading is retried after a second, and takes some time.
const READING: Duration = Duration::from_secs(3);
/// Without a fault for this long, Redis answers every lookup.
const RECOVERED: Duration = Duration::from_secs(3);

// === impl Moment ===

impl Moment {
    pub(super) fn new(world: &World, paused: Duration) -> Self {
        let began = world.now();
        let tokens = || std::array::from_fn::<_, TOKENS, _>(|token| token);
        Self {
            began,
            paused,
            versions: tokens().map(|token| world.tokens[token].version),
            primary: world.store.primary,
            store_well: world.store_well,
            late: tokens().map(|token| late(world, token, Duration::ZERO)),
            late_unasked: tokens().map(|token| late(world, token, MAX_STALENESS)),
            held: tokens().map(|token| is_held(world, token)),
            live: world.must_be_live(),
        }
    }

    /// What is wrong with an answer that is given now.
    pub(super) fn judge(&self, world: &World, token: usize, answer: Answer) -> Result<(), String> {
        // If the truth changed meanwhile, either answer is right.
        if self.versions[token] != world.tokens[token].version {
            return Ok(());
        }
        let same_store = self.primary == world.store.primary;
        let well_for = self.store_well.map(|since| self.began.saturating_sub(since));
        let well = |long: Duration| world.store_well == self.store_well && well_for >= Some(long);
        let wrong = |what: &str| Err(format!("token {token}: {what}"));
        let is_late = |late: Option<&str>| match late {
            Some(late) => Err(format!("token {token} was allowed ({answer:?}): {late}")),
            None => Ok(()),
        };
        if token == 0 && self.live && answer != Answer::Trusted {
            return wrong("nothing keeps the replica from being live, and it is not");
        }
        let is_revoked = matches!(world.tokens[token].truth, Truth::Revoked(_));
        match answer {
            Answer::Trusted | Answer::Unasked if is_revoked && self.paused >= LEASE => {
                let paused = self.paused;
                wrong(&format!("the process was paused for {paused:?}, and the set is trusted"))
            }
            Answer::Trusted => is_late(self.late[token].as_deref()),
            // A relay may have moved it to the stream while key and outbox were asked.
            Answer::Asked if self.held[token] && is_held(world, token) && same_store => {
                wrong("Redis was asked, holds the revocation, and the token was allowed")
            }
            Answer::Unasked if well(RECOVERED) => wrong("Redis is well and was not asked"),
            Answer::Unasked => is_late(self.late_unasked[token].as_deref()),
            Answer::Revoked if token == 0 => wrong("it was never revoked, and is denied"),
            Answer::Unavailable if well(RECOVERED) => wrong("Redis is well, and it is denied"),
            Answer::NotReady if well(AFTERMATH + RECOVERED) => {
                wrong("Redis is well, and the replica is not ready")
            }
            Answer::Asked | Answer::Revoked | Answer::Unavailable | Answer::NotReady => Ok(()),
        }
    }
}

/// Why the set must have a token by now, if it must. Bounds are longer by `patience`.
fn late(world: &World, token: usize, patience: Duration) -> Option<String> {
    let Truth::Revoked(acknowledged) = world.tokens[token].truth else { return None };
    if world.is_doubtful(token) {
        return None;
    }
    let (now, events) = (world.now(), &world.tokens[token].revocations);
    let mut bounds = vec![];
    if let Some(published) = world.broker.has_since(events)
        // The broker itself is late, and no probe can show it.
        && !(world.broker.is_under_way(events) && world.is_unproven(published))
    {
        let from = acknowledged.max(published);
        if world.paused_at(from, LEASE) {
            bounds.push(("the process was paused when the stream got it", from, Duration::ZERO));
        }
        let well = world.broker_well.is_some_and(|since| since + AFTERMATH <= from);
        let bound = if well { PROMPT } else { NOTICED } + world.stopped_between(from, now, LEASE);
        // A replica that starts without the broker is as complete as what it reads from Redis,
        // which may have lost the key.
        let was_lost = world.store.keys[token].is_none_or(|since| since > world.started);
        let lost = !patience.is_zero() && was_lost && !world.was_trusted;
        let read = if lost { world.store_heard.unwrap_or(now) } else { from };
        bounds.push(("the stream has it", from, bound.max(read.saturating_sub(from))));
    }
    // Entries in the store are found, if no fault keeps the replica from reading it.
    if let Some(well) = world.store_well {
        let stopped = |from| world.stopped_between(from, now, Duration::MAX);
        if let Some(pending) = world.store.pending_since(events) {
            let from = acknowledged.max(pending).max(well);
            bounds.push(("the outbox has it", from, POLLED + stopped(from)));
        }
        if let Some(stored) = world.store.keys[token] {
            let from = acknowledged.max(stored).max(well);
            bounds.push(("it is found by reading", from, INTERVAL + READING + stopped(from)));
        }
    }
    let over = bounds.into_iter().find(|(_, from, bound)| now > *from + *bound + patience);
    over.map(|(why, from, bound)| {
        format!("{why} for {:?}, and the bound is {:?}", now.saturating_sub(from), bound + patience)
    })
}

/// Whether it is revoked, and the replica receives or finds it.
pub(super) fn is_found(world: &World, token: usize) -> bool {
    let it = &world.tokens[token];
    let is_there =
        || world.store.keys[token].is_some() || world.broker.has_since(&it.revocations).is_some();
    matches!(it.truth, Truth::Revoked(_)) && is_there() && !world.is_doubtful(token)
}

fn is_held(world: &World, token: usize) -> bool {
    let Truth::Revoked(_) = world.tokens[token].truth else { return false };
    if world.is_doubtful(token) {
        return false;
    }
    world.store.keys[token].is_some()
        || world.store.pending_since(&world.tokens[token].revocations).is_some()
}

/// Whether it was un-revoked, and the replica has been notified.
pub(super) fn is_free(world: &World, token: usize) -> bool {
    let it = &world.tokens[token];
    let is_of_it = |event: &u64| it.removals.contains(event);
    it.truth == Truth::Clear
        && !it.busy
        && world.store.keys[token].is_none()
        && world.broker.handed.iter().any(|(event, _)| is_of_it(event))
}
