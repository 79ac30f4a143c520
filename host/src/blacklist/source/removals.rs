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
    /// Which publisher waits for it.
    pub(super) receipt: Option<String>,
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
    /// Confirmed while the store was being read: that reading may have seen the entry before, and
    /// bring it back.
    confirmed: Vec<Removal>,
}

struct Pending {
    removal: Removal,
    due: Instant,
    attempts: u32,
    /// Whether it is being asked now.
    asking: bool,
}

/// A publisher that tells the broker first writes to the store within this time.
const FIRST_AFTER: Duration = Duration::from_secs(1);
/// How often one question is asked; the pause doubles each time.
const ATTEMPTS: u32 = 6;
/// How many go together.
const BATCH: usize = 256;
/// How many may wait. What finds no room stays revoked until it expires.
const ROOM: usize = 100_000;

// === impl Removals ===

impl Removals {
    /// Takes a question. Returns whether there was room for it.
    pub(super) fn heard(&mut self, removal: Removal, now: Instant) -> bool {
        if self.pending.len() >= ROOM {
            return false;
        }
        // A publisher that waits for a receipt writes to the store before it publishes.
        let pause = if removal.receipt.is_some() { Duration::ZERO } else { FIRST_AFTER };
        self.ask(removal, now + pause);
        true
    }

    /// A revocation was heard: what was asked about it before says nothing any more.
    pub(super) fn revoked(&mut self, event: &Event) {
        let key = match event {
            Event::Add { token_id, .. } => Key::Token(*token_id),
            Event::CutOff { cutoff, .. } => Key::Cutoff(*cutoff),
            Event::Remove { .. } | Event::Lift { .. } => return,
        };
        self.pending.remove(&key);
        self.confirmed.retain(|removal| removal.target.key() != key);
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

    /// What the store said of each. Returns those that are confirmed; `reading` says whether the store
    /// is being read at this time.
    pub(super) fn answered(
        &mut self,
        asked: Vec<Removal>,
        gone: Option<Vec<bool>>,
        reading: bool,
        now: Instant,
    ) -> Vec<Removal> {
        let mut confirmed = Vec::new();
        let answers = gone.unwrap_or_default().into_iter().chain(std::iter::repeat(false));
        for (removal, gone) in asked.into_iter().zip(answers) {
            let key = removal.target.key();
            // One that was revoked again while the store was asked is not asked about any more.
            let Some(pending) = self.pending.get_mut(&key).filter(|pending| pending.asking) else {
                continue;
            };
            if gone {
                self.pending.remove(&key);
                confirmed.push(removal);
                continue;
            }
            pending.asking = false;
            pending.attempts += 1;
            pending.due = now + FIRST_AFTER * (1 << pending.attempts.min(ATTEMPTS));
            if pending.attempts >= ATTEMPTS {
                self.pending.remove(&key);
                tracing::warn!("the store still holds a revocation that an event takes back");
            }
        }
        if reading {
            self.confirmed.extend(confirmed.iter().cloned());
        }
        confirmed
    }

    /// The reading of the store has ended, which may have brought back what was removed meanwhile.
    pub(super) fn reading_ended(&mut self, now: Instant) {
        for removal in std::mem::take(&mut self.confirmed) {
            self.ask(removal, now);
        }
    }

    fn ask(&mut self, removal: Removal, due: Instant) {
        let key = removal.target.key();
        self.pending.insert(key, Pending { removal, due, attempts: 0, asking: false });
    }
}

// === impl Removal ===

impl Removal {
    pub(super) const fn new(target: Target, receipt: Option<String>) -> Self {
        Self { target, receipt }
    }

    /// The event that removes it.
    pub(super) const fn event(&self) -> Event {
        match self.target {
            Target::Token(token_id, _) => Event::Remove { token_id },
            Target::Cutoff(cutoff) => Event::Lift { cutoff },
        }
    }
}

impl std::fmt::Debug for Removal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Removal([redacted])")
    }
}

// === impl Target ===

impl Target {
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
            let there = removals.answered(vec![removal("j")], Some(vec![false]), false, now);
            assert_eq!(there, []);
            assert_eq!(removals.due(now), []);
            now += FIRST_AFTER * (1 << attempt);
        }
        assert_eq!(removals.due(now), [], "given up: it stays revoked");
        removals.heard(removal("j"), now);
        now += FIRST_AFTER;
        removals.due(now);
        assert_eq!(removals.answered(vec![removal("j")], None, false, now), [], "no answer");
        now += FIRST_AFTER * 2;
        let asked = removals.due(now);
        assert_eq!(removals.answered(asked, Some(vec![true]), false, now), [removal("j")]);
        assert_eq!(removals.due(now + FIRST_AFTER * 100), []);
    }

    #[test]
    fn what_is_revoked_again_is_not_removed_by_an_older_answer() {
        let start = Instant::now();
        let due = start + FIRST_AFTER;
        let mut removals = Removals::default();
        removals.heard(removal("j"), start);
        let asked = removals.due(due);
        removals.revoked(&add("j"));
        assert_eq!(removals.answered(asked, Some(vec![true]), false, due), []);
        // Nor by the answer to an older question, if another removal was heard since.
        removals.heard(removal("j"), start);
        let asked = removals.due(due);
        removals.revoked(&add("j"));
        removals.heard(removal("j"), due);
        assert_eq!(removals.answered(asked, Some(vec![true]), false, due), []);
        assert_eq!(removals.due(due + FIRST_AFTER), [removal("j")]);
    }

    #[test]
    fn a_reading_that_may_bring_an_entry_back_is_followed_by_another_question() {
        let start = Instant::now();
        let due = start + FIRST_AFTER;
        let mut removals = Removals::default();
        removals.heard(removal("j"), start);
        let asked = removals.due(due);
        assert_eq!(removals.answered(asked, Some(vec![true]), true, due), [removal("j")]);
        assert_eq!(removals.due(due), []);
        removals.reading_ended(due);
        assert_eq!(removals.due(due), [removal("j")]);
    }

    #[test]
    fn a_publisher_that_waits_is_answered_at_once() {
        let start = Instant::now();
        let mut removals = Removals::default();
        let waiting = Removal { receipt: Some("r".to_owned()), ..removal("j") };
        removals.heard(waiting.clone(), start);
        assert_eq!(removals.due(start), [waiting]);
    }
}
