//! Removals that wait for the store's answer.
//!
//! An event that takes a revocation back removes nothing by itself: removals arrive late, twice, and
//! by several ways, and the token may have been revoked again meanwhile. So the store is asked whether
//! the revocation is gone. If it is there, or the store does not answer, the entry is kept, and the
//! question is asked again some times. Order, duplicates and delays of removals do not matter then.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    blacklist::{cutoff::Cutoff, event::Event},
    token_id::TokenId,
};

/// What is no longer revoked, as an event says.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::blacklist) struct Removal {
    pub(in crate::blacklist) target: Target,
    /// Which publishers wait for it.
    pub(super) receipts: Vec<String>,
}

/// Which revocation.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::blacklist) enum Target {
    /// Of one token: its id, and the text that the store has in its keys.
    Token(TokenId, String),
    /// A cut-off.
    Cutoff(Cutoff),
}

/// A target without its names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Token(TokenId),
    Cutoff(Cutoff),
}

/// The questions that are to be asked.
#[derive(Default)]
pub(super) struct Removals {
    pending: HashMap<Key, Pending>,
    /// What was confirmed lately, and when. A revocation that is heard after that may be an old one
    /// that arrives once more, and a reading of the store may have seen the entry before.
    confirmed: HashMap<Key, (Target, Instant)>,
}

struct Pending {
    removal: Removal,
    heard: Instant,
    due: Instant,
    /// How often the store has said that the revocation is there.
    contradictions: u32,
    /// Whether it is being asked now.
    asking: bool,
}

/// A publisher that tells the broker first writes to the store within this time.
const FIRST_AFTER: Duration = Duration::from_secs(1);
/// So often the store may contradict; the pause doubles each time.
const ATTEMPTS: u32 = 6;
/// For so long a store that does not answer is asked again, and what was confirmed is remembered.
const MEMORY: Duration = Duration::from_mins(10);
/// How many go together.
const BATCH: usize = 256;
/// How many may wait, or be remembered. What finds no room stays revoked until it expires.
const ROOM: usize = 100_000;

// === impl Removals ===

impl Removals {
    /// Handles a removal. Returns whether there was room for it.
    pub(super) fn heard(&mut self, mut removal: Removal, now: Instant) -> bool {
        let key = removal.target.key();
        if let Some(pending) = self.pending.remove(&key) {
            removal.receipts.extend(pending.removal.receipts);
        } else if self.pending.len() >= ROOM {
            return false;
        }
        // A publisher that waits for a receipt writes to the store before it publishes.
        let pause = if removal.receipts.is_empty() { FIRST_AFTER } else { Duration::ZERO };
        self.ask(removal, now, now + pause);
        true
    }

    /// Handles a revocation: what was asked about it before says nothing any more. Whether it is a
    /// newer one, or an old one that arrives once more, the store says.
    pub(super) fn revoked(&mut self, event: &Event, now: Instant) {
        let key = match event {
            Event::Add { token_id, .. } => Key::Token(*token_id),
            Event::CutOff { cutoff, .. } => Key::Cutoff(*cutoff),
            Event::Remove { .. } | Event::Lift { .. } => return,
        };
        let removal = match (self.pending.remove(&key), self.confirmed.remove(&key)) {
            (Some(pending), _) => pending.removal,
            (None, Some((target, _))) => Removal::new(target, None),
            (None, None) => return,
        };
        self.ask(removal, now, now + FIRST_AFTER);
    }

    /// What is to be asked now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Removal> {
        let due = self.pending.values_mut().filter(|pending| pending.due <= now);
        let ask = |pending: &mut Pending| {
            pending.asking = true;
            pending.removal.clone()
        };
        due.take(BATCH).map(ask).collect()
    }

    /// What the store said of each; nothing if it did not answer. Returns those that are confirmed.
    pub(super) fn answered(
        &mut self,
        asked: Vec<Removal>,
        gone: Option<Vec<bool>>,
        now: Instant,
    ) -> Vec<Removal> {
        let mut confirmed = Vec::new();
        let answers = gone.into_iter().flatten().map(Some).chain(std::iter::repeat(None));
        for (removal, gone) in asked.into_iter().zip(answers) {
            let key = removal.target.key();
            // One that was heard of again while the store was asked is asked about anew.
            let Some(pending) = self.pending.get_mut(&key).filter(|pending| pending.asking) else {
                continue;
            };
            pending.asking = false;
            match gone {
                Some(true) => {
                    self.pending.remove(&key);
                    self.remember(key, removal.target.clone(), now);
                    confirmed.push(removal);
                }
                Some(false) => {
                    pending.contradictions += 1;
                    pending.due = now + FIRST_AFTER * (1 << pending.contradictions);
                    if pending.contradictions >= ATTEMPTS {
                        self.pending.remove(&key);
                        tracing::warn!("Redis still holds a revocation that an event takes back");
                    }
                }
                None => {
                    pending.due = now + FIRST_AFTER;
                    if now.saturating_duration_since(pending.heard) > MEMORY {
                        self.pending.remove(&key);
                        tracing::warn!("Redis did not say whether a revocation is gone; it stays");
                    }
                }
            }
        }
        confirmed
    }

    /// A reading of the store has ended, which may have brought back what was removed since it began.
    pub(super) fn reading_ended(&mut self, began: Instant, now: Instant) {
        let of_it = |(_, (_, at)): &(Key, (Target, Instant))| *at >= began;
        let again: Vec<_> = std::mem::take(&mut self.confirmed).into_iter().collect();
        let (again, kept): (Vec<_>, Vec<_>) = again.into_iter().partition(of_it);
        let is_fresh = |at: Instant| now.saturating_duration_since(at) <= MEMORY;
        self.confirmed = kept.into_iter().filter(|(_, (_, at))| is_fresh(*at)).collect();
        for (key, (target, _)) in again {
            if !self.pending.contains_key(&key) {
                self.ask(Removal::new(target, None), now, now);
            }
        }
    }

    fn ask(&mut self, removal: Removal, heard: Instant, due: Instant) {
        let key = removal.target.key();
        let pending = Pending { removal, heard, due, contradictions: 0, asking: false };
        self.pending.insert(key, pending);
    }

    fn remember(&mut self, key: Key, target: Target, now: Instant) {
        if self.confirmed.len() < ROOM {
            self.confirmed.insert(key, (target, now));
        }
    }
}

// === impl Removal ===

impl Removal {
    pub(super) fn new(target: Target, receipt: Option<String>) -> Self {
        Self { target, receipts: receipt.into_iter().collect() }
    }
}

impl std::fmt::Debug for Removal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Removal([redacted])")
    }
}

// === impl Target ===

impl Target {
    /// The event that removes it.
    pub(super) const fn removal(&self) -> Event {
        match self {
            Self::Token(token_id, _) => Event::Remove { token_id: *token_id },
            Self::Cutoff(cutoff) => Event::Lift { cutoff: *cutoff },
        }
    }

    const fn key(&self) -> Key {
        match self {
            Self::Token(token_id, _) => Key::Token(*token_id),
            Self::Cutoff(cutoff) => Key::Cutoff(*cutoff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removal(jti: &str) -> Removal {
        let target = Target::Token(TokenId::new(jti).unwrap(), jti.to_owned());
        Removal::new(target, None)
    }

    fn add(jti: &str) -> Event {
        Event::Add { token_id: TokenId::new(jti).unwrap(), expires_at: None }
    }

    #[test]
    fn a_removal_is_confirmed_only_by_the_store() {
        let start = Instant::now();
        let mut removals = Removals::default();
        assert!(removals.heard(removal("j"), start));
        assert_eq!(removals.due(start), [], "its publisher may not have written to the store yet");
        let mut now = start + FIRST_AFTER;
        for attempt in 1..=ATTEMPTS {
            assert_eq!(removals.due(now), [removal("j")], "{attempt}");
            assert_eq!(removals.answered(vec![removal("j")], Some(vec![false]), now), []);
            assert_eq!(removals.due(now), []);
            now += FIRST_AFTER * (1 << attempt);
        }
        assert_eq!(removals.due(now), [], "given up: it stays revoked");
        removals.heard(removal("j"), now);
        for _ in 0..60 {
            now += FIRST_AFTER;
            let asked = removals.due(now);
            assert_eq!(asked, [removal("j")], "a store that is away says nothing");
            assert_eq!(removals.answered(asked, None, now), []);
        }
        now += FIRST_AFTER;
        let asked = removals.due(now);
        assert_eq!(removals.answered(asked, Some(vec![true]), now), [removal("j")]);
        assert_eq!(removals.due(now + FIRST_AFTER * 100), []);
    }

    #[test]
    fn what_is_revoked_again_is_not_removed_by_an_older_answer() {
        let start = Instant::now();
        let due = start + FIRST_AFTER;
        let mut removals = Removals::default();
        removals.heard(removal("j"), start);
        let asked = removals.due(due);
        removals.revoked(&add("j"), due);
        assert_eq!(removals.answered(asked, Some(vec![true]), due), []);
        assert_eq!(removals.due(due), [], "its key may not be there yet");
        assert_eq!(removals.due(due + FIRST_AFTER), [removal("j")]);
    }

    #[test]
    fn an_old_revocation_that_arrives_once_more_is_asked_about() {
        let start = Instant::now();
        let mut removals = Removals::default();
        removals.revoked(&add("j"), start);
        assert_eq!(removals.due(start + MEMORY), [], "it was never taken back");
        removals.heard(removal("j"), start);
        let now = start + FIRST_AFTER;
        let asked = removals.due(now);
        assert_eq!(removals.answered(asked, Some(vec![true]), now), [removal("j")]);
        removals.revoked(&add("j"), now);
        assert_eq!(removals.due(now + FIRST_AFTER), [removal("j")]);
    }

    #[test]
    fn a_reading_that_may_bring_an_entry_back_is_followed_by_another_question() {
        let start = Instant::now();
        let now = start + FIRST_AFTER;
        let mut removals = Removals::default();
        removals.heard(removal("j"), start);
        let asked = removals.due(now);
        assert_eq!(removals.answered(asked, Some(vec![true]), now), [removal("j")]);
        removals.reading_ended(now + FIRST_AFTER, now + FIRST_AFTER);
        assert_eq!(removals.due(now + FIRST_AFTER), [], "it began later");
        removals.reading_ended(start, now);
        assert_eq!(removals.due(now), [removal("j")]);
    }

    #[test]
    fn publishers_that_wait_are_all_answered_at_once() {
        let start = Instant::now();
        let mut removals = Removals::default();
        let waiting = |receipt: &str| Removal::new(removal("j").target, Some(receipt.to_owned()));
        removals.heard(waiting("r"), start);
        removals.heard(waiting("s"), start);
        let asked = removals.due(start);
        assert_eq!(asked[0].receipts, ["s", "r"]);
    }
}
