//! The index of revocations in Redis: a sorted set of keys by the time at which each expires.
//!
//! In a shared keyspace, the cost of a scan grows with the keys of other applications. Publishers
//! of Portcullis update the index in the same script that writes the key. The index is used only
//! once it is complete: the first replica that finds no complete index scans all keys, adds them,
//! and marks it as complete.
//!
//! The key decides: an index entry whose key is gone is not a revocation. It leaves the index when
//! it would have expired.

use std::{collections::HashSet, time::Duration};

use portcullis_types::timestamp::Timestamp;
use redis::{Pipeline, Value};

use super::{
    ask::Ask,
    entries::Wanted,
    error::StoreError,
    snapshot::{SnapshotKind, SnapshotReader},
};
use crate::{ambient, event::Event, feed::FeedEvent};

/// The member that marks the index as complete. Its score is below zero, so it never expires.
const COMPLETE: &str = "complete";

/// How many entries the store visits for one page.
const COUNT: usize = 1_000;

/// A key that is gone by then must not be added: so the script checks each key.
///
/// Keys: the index. Arguments: the keys of revocations.
const FILL: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(ARGV) do
  local left = redis.call('PTTL', key)
  if left == -1 then
    redis.call('ZADD', KEYS[1], '+inf', key)
  elseif left >= 0 then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + left), key)
  end
end";

/// An entry of the index: its key, and when it expires by the clock of the store, in milliseconds.
type Member = (Vec<u8>, f64);

// === impl SnapshotReader ===

impl<C: Ask> SnapshotReader<'_, C> {
    /// Whether all revocations are in the index.
    pub(super) async fn has_complete(&self, index: &str) -> Result<bool, StoreError> {
        let (score,): (Option<f64>,) =
            self.from.ask(redis::pipe().cmd("ZSCORE").arg(index).arg(COMPLETE)).await?;
        Ok(score.is_some())
    }

    /// Adds keys that a scan has found.
    pub(super) async fn fill(&self, index: &str, found: &[Wanted]) -> Result<(), StoreError> {
        if found.is_empty() {
            return Ok(());
        }
        let mut commands = Pipeline::with_capacity(1);
        let fill = commands.cmd("EVAL").arg(FILL).arg(1).arg(index);
        for entry in found {
            fill.arg(&entry.key);
        }
        fill.ignore();
        self.from.ask(&commands).await
    }

    /// Marks the index as complete: all existing keys have been added, and publishers add new ones.
    pub(super) async fn complete(&self, index: &str) -> Result<(), StoreError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.cmd("ZADD").arg(index).arg(-1).arg(COMPLETE).ignore();
        let () = self.from.ask(&commands).await?;
        tracing::info!("the index of revocations in Redis is complete");
        Ok(())
    }

    /// Sends the entries of the index to the feed, with expiries, and returns how many there were.
    /// An entry that is in the index throughout is found, whatever else is added or removed.
    pub(super) async fn read_index(&self, index: &str) -> Result<u64, StoreError> {
        let (mut cursor, mut count) = (0, 0);
        loop {
            let mut commands = Pipeline::with_capacity(2);
            commands.cmd("TIME");
            commands.cmd("ZSCAN").arg(index).arg(cursor).arg("COUNT").arg(COUNT);
            let (time, (next, page)): ((f64, f64), (u64, Vec<Member>)) =
                self.from.ask(&commands).await?;
            let clocks =
                Clocks { store: time.0.mul_add(1_000.0, time.1 / 1_000.0), ours: ambient::now() };
            let members = page.into_iter().filter_map(|(key, score)| {
                Some((Wanted::from_key(self.keys, key)?, clocks.expiry(score)?))
            });
            let (cutoffs, tokens): (Vec<_>, Vec<_>) =
                members.partition(|(entry, _)| entry.is_cutoff());
            count += (cutoffs.len() + tokens.len()) as u64;
            self.send(FeedEvent::InitExpiries, self.there(tokens).await?).await?;
            // The content of a cut-off is in its value.
            let cutoffs: Vec<_> = cutoffs.into_iter().map(|(entry, _)| entry).collect();
            self.send(FeedEvent::InitExpiries, self.entries(&cutoffs).await?).await?;
            if next == 0 {
                return Ok(count);
            }
            cursor = next;
        }
    }

    /// The tokens that the set does not know. Only those whose keys exist are returned.
    async fn there(&self, tokens: Vec<(Wanted, Expiry)>) -> Result<Vec<Event>, StoreError> {
        let now = ambient::now();
        let is_wanted = |(entry, _): &(Wanted, Expiry)| {
            self.kind == SnapshotKind::AllExpiries
                || entry.token_id.is_some_and(|token_id| self.known.lacks_expiry(&token_id, now))
        };
        let wanted: Vec<_> = tokens.into_iter().filter(is_wanted).collect();
        let is_new = |(entry, _): &&(Wanted, Expiry)| {
            entry.token_id.is_some_and(|token_id| !self.known.holds(&token_id, now))
        };
        let gone = self.gone(wanted.iter().filter(is_new).map(|(entry, _)| entry)).await?;
        let there = wanted.into_iter().filter(|(entry, _)| !gone.contains(&entry.key));
        let event = |(entry, expiry): (Wanted, Expiry)| {
            Some(Event::Add { token_id: entry.token_id?, expires_at: expiry.0 })
        };
        Ok(there.filter_map(event).collect())
    }

    /// Which of the keys are gone. Usually none is, which one command shows.
    async fn gone(
        &self,
        entries: impl Iterator<Item = &Wanted> + Clone + Send,
    ) -> Result<HashSet<String>, StoreError> {
        let names: Vec<_> = entries.map(|entry| &entry.key).collect();
        if names.is_empty() {
            return Ok(HashSet::new());
        }
        let (there,): (usize,) = self.from.ask(redis::pipe().cmd("EXISTS").arg(&names)).await?;
        if there == names.len() {
            return Ok(HashSet::new());
        }
        let mut commands = Pipeline::with_capacity(names.len());
        for name in &names {
            commands.cmd("EXISTS").arg(name);
        }
        let answers: Vec<Value> = self.from.ask(&commands).await?;
        if answers.len() != names.len() {
            return Err(StoreError::nonsense());
        }
        let gone = names.into_iter().zip(answers).filter(|(_, there)| *there == Value::Int(0));
        Ok(gone.map(|(name, _)| name.clone()).collect())
    }
}

/// When an entry expires, by the local clock; `None` means never.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Expiry(Option<Timestamp>);

/// The same moment by the clock of the store, in milliseconds, and by the local clock.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    store: f64,
    ours: Timestamp,
}

// === impl Clocks ===

impl Clocks {
    /// The expiry of an entry with this score; `None` if it has expired, or is not a revocation.
    fn expiry(self, score: f64) -> Option<Expiry> {
        if score < 0.0 || score.is_nan() {
            return None;
        }
        if score.is_infinite() {
            return Some(Expiry(None));
        }
        let left = Duration::try_from_secs_f64((score - self.store) / 1_000.0).ok()?;
        Some(Expiry(Some(self.ours.plus(left)))).filter(|_| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lasts_until_the_clock_of_the_store_reaches_its_score() {
        let clocks = Clocks { store: 1_700_000_000_000.0, ours: Timestamp::from_secs(5_000) };
        let after = |millis: f64| clocks.expiry(1_700_000_000_000.0 + millis);
        assert_eq!(after(1_500.0), Some(Expiry(Some(Timestamp::from_millis(5_001_500)))));
        assert_eq!(clocks.expiry(f64::INFINITY), Some(Expiry(None)));
        for over in [after(0.0), after(-1.0), clocks.expiry(-1.0), clocks.expiry(f64::NAN)] {
            assert_eq!(over, None);
        }
    }
}
