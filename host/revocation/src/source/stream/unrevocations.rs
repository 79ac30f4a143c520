//! Pending un-revocations, which wait until the store confirms them.
//!
//! An un-revocation removes no entry by itself: such events arrive late, twice, and on several
//! paths, and the token may have been revoked again meanwhile. So the store is queried whether the
//! revocation is gone. If it is there, or the store does not answer, the entry is kept, and the
//! query is retried some times. Then order, duplicates and delays of un-revocations do not matter.
//!
//! The retries are few: a store that loses the key of a newer revocation meanwhile confirms the
//! un-revocation, too.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::sabotage::{self, Sabotage};
use crate::event::{EntryKey, Event, Unrevocation, UnrevocationTarget};

/// Pending and recently confirmed un-revocations.
#[derive(Default)]
pub(super) struct Unrevocations {
    pending: HashMap<EntryKey, Pending>,
    /// Un-revocations confirmed lately, and when. A revocation that arrives after that may be a
    /// duplicate of an old one, and a reading of the store may have seen the entry before.
    confirmed: HashMap<EntryKey, (UnrevocationTarget, Instant)>,
}

struct Pending {
    unrevocation: Unrevocation,
    received: Instant,
    due: Instant,
    /// How often the store has answered that the revocation is still there.
    contradictions: u32,
    /// Whether a revocation has arrived since, which the store may confirm.
    revoked_again: bool,
    /// Whether the query is in flight.
    asking: bool,
}

/// A publisher that publishes first writes to the store within this time.
const FIRST_AFTER: Duration = Duration::from_secs(1);
/// How often the store may contradict an un-revocation, if its publisher is slow. The pause doubles
/// each time.
const ATTEMPTS: u32 = 3;
/// How long a store that does not answer is queried again, and how long a confirmation is
/// remembered.
const MEMORY: Duration = Duration::from_mins(10);
/// How many are verified in one query.
const BATCH: usize = 256;
/// How many may wait, or be remembered. A target without room stays revoked until it expires.
const ROOM: usize = 100_000;

// === impl Unrevocations ===

impl Unrevocations {
    /// Handles an un-revocation. Returns whether there was room for it.
    pub(super) fn received(&mut self, mut unrevocation: Unrevocation, now: Instant) -> bool {
        let key = unrevocation.target.event().entry();
        if let Some(pending) = self.pending.remove(&key) {
            unrevocation.receipts.extend(pending.unrevocation.receipts);
        } else if self.pending.len() >= ROOM {
            return false;
        }
        // A publisher that waits for a receipt writes to the store before it publishes.
        let pause = if unrevocation.receipts.is_empty() { FIRST_AFTER } else { Duration::ZERO };
        self.ask(unrevocation, now, now + pause, false);
        true
    }

    /// Handles a revocation: a query about it that is in flight is not valid any more. One new query
    /// shows whether it is a newer revocation, or a duplicate of an old one.
    pub(super) fn revoked(&mut self, event: &Event, now: Instant) {
        if !event.revokes() {
            return;
        }
        let key = event.entry();
        let unrevocation = match (self.pending.remove(&key), self.confirmed.remove(&key)) {
            (Some(pending), _) => pending.unrevocation,
            (None, Some((target, _))) => Unrevocation::new(target, None),
            (None, None) => return,
        };
        self.ask(unrevocation, now, now + FIRST_AFTER, true);
    }

    /// The un-revocations that are to be verified now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Unrevocation> {
        let due = self.pending.values_mut().filter(|pending| pending.due <= now);
        let ask = |pending: &mut Pending| {
            pending.asking = true;
            pending.unrevocation.clone()
        };
        due.take(BATCH).map(ask).collect()
    }

    /// Handles the answer of the store for each, or `None` if it did not answer. Returns those that
    /// are confirmed.
    pub(super) fn answered(
        &mut self,
        asked: Vec<Unrevocation>,
        gone: Option<Vec<bool>>,
        now: Instant,
    ) -> Vec<Unrevocation> {
        let mut confirmed = Vec::new();
        let answers = gone.into_iter().flatten().map(Some).chain(std::iter::repeat(None));
        for (unrevocation, gone) in asked.into_iter().zip(answers) {
            let key = unrevocation.target.event().entry();
            // A target with a new event since the query is queried again.
            let Some(pending) = self.pending.get_mut(&key).filter(|pending| pending.asking) else {
                continue;
            };
            pending.asking = false;
            match gone {
                Some(true) => {
                    self.pending.remove(&key);
                    if self.confirmed.len() < ROOM {
                        self.confirmed.insert(key, (unrevocation.target.clone(), now));
                    }
                    confirmed.push(unrevocation);
                }
                Some(false) => {
                    pending.contradictions += 1;
                    pending.due = now + FIRST_AFTER * (1 << pending.contradictions);
                    if sabotage::is_on(Sabotage::AskForLong) {
                        continue;
                    }
                    if pending.revoked_again {
                        self.pending.remove(&key);
                    } else if pending.contradictions >= ATTEMPTS {
                        self.pending.remove(&key);
                        tracing::warn!("un-revocation contradicted by Redis; keeping the entry");
                    }
                }
                None => {
                    pending.due = now + FIRST_AFTER;
                    if now.saturating_duration_since(pending.received) > MEMORY {
                        self.pending.remove(&key);
                        tracing::warn!("un-revocation could not be verified; keeping the entry");
                    }
                }
            }
        }
        confirmed
    }

    /// A reading of the store has ended, which began then. It may have brought back entries that were
    /// removed since, so these are verified again.
    pub(super) fn reading_ended(&mut self, began: Instant, now: Instant) {
        let again: Vec<_> = self.confirmed.extract_if(|_, (_, at)| *at >= began).collect();
        self.confirmed.retain(|_, (_, at)| now.saturating_duration_since(*at) <= MEMORY);
        for (key, (target, _)) in again {
            if !self.pending.contains_key(&key) {
                self.ask(Unrevocation::new(target, None), now, now, true);
            }
        }
    }

    /// A whole reading has found these revocations in the outbox. An old one may have brought back an
    /// entry that was un-revoked on another path before the reading began.
    pub(super) fn found_pending(&mut self, events: &[Event], now: Instant) {
        for event in events {
            let pending = self.pending.get(&event.entry());
            // A query that has yet to begin sees whether the revocation holds.
            if pending.is_none_or(|pending| pending.asking) {
                self.revoked(event, now);
            }
        }
    }

    fn ask(
        &mut self,
        unrevocation: Unrevocation,
        received: Instant,
        due: Instant,
        revoked_again: bool,
    ) {
        let key = unrevocation.target.event().entry();
        let (contradictions, asking) = (0, false);
        let pending =
            Pending { unrevocation, received, due, contradictions, revoked_again, asking };
        self.pending.insert(key, pending);
    }
}

#[cfg(test)]
mod tests {
    use portcullis_types::token_id::TokenId;

    use super::*;

    fn unrevocation(jti: &str) -> Unrevocation {
        let target = UnrevocationTarget::Token(TokenId::new(jti).unwrap(), jti.to_owned());
        Unrevocation::new(target, None)
    }

    fn add(jti: &str) -> Event {
        Event::Add { token_id: TokenId::new(jti).unwrap(), expires_at: None }
    }

    #[test]
    fn an_unrevocation_is_confirmed_only_by_the_store() {
        let start = Instant::now();
        let mut unrevocations = Unrevocations::default();
        assert!(unrevocations.received(unrevocation("j"), start));
        assert_eq!(
            unrevocations.due(start),
            [],
            "its publisher may not have written to the store yet"
        );
        let mut now = start + FIRST_AFTER;
        for attempt in 1..=ATTEMPTS {
            assert_eq!(unrevocations.due(now), [unrevocation("j")], "{attempt}");
            assert_eq!(unrevocations.answered(vec![unrevocation("j")], Some(vec![false]), now), []);
            assert_eq!(unrevocations.due(now), []);
            now += FIRST_AFTER * (1 << attempt);
        }
        assert_eq!(unrevocations.due(now), [], "dropped: it stays revoked");
        unrevocations.received(unrevocation("j"), now);
        for _ in 0..60 {
            now += FIRST_AFTER;
            let asked = unrevocations.due(now);
            assert_eq!(asked, [unrevocation("j")], "a store that is away says nothing");
            assert_eq!(unrevocations.answered(asked, None, now), []);
        }
        now += FIRST_AFTER;
        let asked = unrevocations.due(now);
        assert_eq!(unrevocations.answered(asked, Some(vec![true]), now), [unrevocation("j")]);
        assert_eq!(unrevocations.due(now + FIRST_AFTER * 100), []);
    }

    #[test]
    fn what_is_revoked_again_is_not_removed_by_an_older_answer() {
        let start = Instant::now();
        let due = start + FIRST_AFTER;
        let mut unrevocations = Unrevocations::default();
        unrevocations.received(unrevocation("j"), start);
        let asked = unrevocations.due(due);
        unrevocations.revoked(&add("j"), due);
        assert_eq!(unrevocations.answered(asked, Some(vec![true]), due), []);
        assert_eq!(unrevocations.due(due), [], "its key may not be there yet");
        assert_eq!(unrevocations.due(due + FIRST_AFTER), [unrevocation("j")]);
    }

    #[test]
    fn a_revocation_that_the_store_confirms_once_is_not_asked_about_again() {
        let start = Instant::now();
        let mut unrevocations = Unrevocations::default();
        unrevocations.received(unrevocation("j"), start);
        unrevocations.revoked(&add("j"), start);
        let now = start + FIRST_AFTER;
        let asked = unrevocations.due(now);
        assert_eq!(asked, [unrevocation("j")]);
        assert_eq!(unrevocations.answered(asked, Some(vec![false]), now), []);
        // From now on, a store that loses the key says nothing about the token.
        assert_eq!(unrevocations.due(now + MEMORY), []);
    }

    #[test]
    fn an_old_revocation_that_arrives_once_more_is_asked_about() {
        let start = Instant::now();
        let mut unrevocations = Unrevocations::default();
        unrevocations.revoked(&add("j"), start);
        assert_eq!(unrevocations.due(start + MEMORY), [], "it was never taken back");
        unrevocations.received(unrevocation("j"), start);
        let now = start + FIRST_AFTER;
        let asked = unrevocations.due(now);
        assert_eq!(unrevocations.answered(asked, Some(vec![true]), now), [unrevocation("j")]);
        unrevocations.revoked(&add("j"), now);
        assert_eq!(unrevocations.due(now + FIRST_AFTER), [unrevocation("j")]);
    }

    #[test]
    fn a_reading_that_may_restore_an_entry_causes_another_query() {
        let start = Instant::now();
        let now = start + FIRST_AFTER;
        let mut unrevocations = Unrevocations::default();
        unrevocations.received(unrevocation("j"), start);
        let asked = unrevocations.due(now);
        assert_eq!(unrevocations.answered(asked, Some(vec![true]), now), [unrevocation("j")]);
        unrevocations.reading_ended(now + FIRST_AFTER, now + FIRST_AFTER);
        assert_eq!(unrevocations.due(now + FIRST_AFTER), [], "it began later");
        unrevocations.reading_ended(start, now);
        assert_eq!(unrevocations.due(now), [unrevocation("j")]);
        let asked = unrevocations.due(now);
        assert_eq!(unrevocations.answered(asked, Some(vec![true]), now), [unrevocation("j")]);
        unrevocations.found_pending(&[add("other"), add("j")], now);
        assert_eq!(unrevocations.due(now), [], "its key may not have been written yet");
        let later = now + FIRST_AFTER;
        assert_eq!(unrevocations.due(later), [unrevocation("j")]);
        unrevocations.found_pending(&[add("j")], later);
        let old = unrevocations.answered(vec![unrevocation("j")], Some(vec![true]), later);
        assert_eq!(old, [], "the query may have seen the store before the revocation");
        assert_eq!(unrevocations.due(later + FIRST_AFTER), [unrevocation("j")]);
    }

    #[test]
    fn publishers_that_wait_are_all_answered_at_once() {
        let start = Instant::now();
        let mut unrevocations = Unrevocations::default();
        let waiting =
            |receipt: &str| Unrevocation::new(unrevocation("j").target, Some(receipt.to_owned()));
        unrevocations.received(waiting("r"), start);
        unrevocations.received(waiting("s"), start);
        let asked = unrevocations.due(start);
        assert_eq!(asked[0].receipts, ["s", "r"]);
    }
}
