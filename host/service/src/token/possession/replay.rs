//! Replay memory: the ids of `DPoP` proofs that this replica has accepted, so that each is accepted once.
//!
//! It never forgets a proof that could still be accepted. When it is full, further proofs are not
//! accepted, and one client can fill a part of it only. Proofs are kept in slots by the time at which they
//! end, and a slot is dropped as a whole.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use portcullis_types::timestamp::Timestamp;

/// So many parts are locked one by one, and grow one by one.
const SHARDS: u8 = 64;

/// In so many slots, proofs of one window are kept.
const SLOTS_PER_WINDOW: u32 = 8;

/// One key may have this part of all proofs, or a single client could keep out all others.
const KEYS: usize = 10;

/// The proofs that were accepted, until they end.
pub(super) struct ReplayMemory {
    shards: Vec<Mutex<ReplayShard>>,
    /// How many proofs are kept in all shards.
    count: AtomicUsize,
    capacity: usize,
    /// How many of them may be of one key.
    capacity_of_key: usize,
    /// How long a slot is, in milliseconds.
    slot_millis: i64,
}

#[derive(Default)]
struct ReplayShard {
    /// By the number of the slot.
    slots: BTreeMap<i64, ReplaySlot>,
    /// What belongs into an earlier slot than this may have been forgotten.
    first: i64,
}

#[derive(Default)]
struct ReplaySlot {
    ids: HashSet<u128>,
    /// How many of them each key has.
    of_keys: HashMap<u64, usize>,
}

/// What is remembered of a proof.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProofId {
    /// A digest of the key.
    pub(super) key: u64,
    /// A digest of everything that makes the proof another one.
    pub(super) id: u128,
    /// When it is over.
    pub(super) ends: Timestamp,
}

/// A proof is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotRemembered {
    /// It was accepted before.
    Again,
    /// It may have been accepted before: the clock has been set back.
    Unknown,
    /// As many proofs are remembered as may be, in all or of its key.
    Full,
}

// === impl ReplayMemory ===

impl ReplayMemory {
    /// A memory of at most `capacity` proofs. `window` is how long before its end a proof is made.
    pub(super) fn new(capacity: usize, window: Duration) -> Self {
        let slot = window / SLOTS_PER_WINDOW;
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            capacity,
            capacity_of_key: (capacity / KEYS).max(1),
            slot_millis: i64::try_from(slot.as_millis()).unwrap_or(i64::MAX).max(1),
        }
    }

    /// Remembers a proof, which ends after `now`.
    ///
    /// # Errors
    /// When it must not be accepted.
    pub(super) fn remember(&self, proof: ProofId, now: Timestamp) -> Result<(), NotRemembered> {
        let ProofId { key, id, ends } = proof;
        let slot = self.slot(ends);
        if self.count.load(Relaxed) >= self.capacity {
            // Those that no request has come to since may hold what is over.
            for shard in &self.shards {
                self.drop_ended(&mut lock(shard), now);
            }
        }
        let [byte, ..] = key.to_le_bytes();
        let shard = self.shards.get(usize::from(byte % SHARDS)).ok_or(NotRemembered::Full)?;
        let mut shard = lock(shard);
        self.drop_ended(&mut shard, now);
        if slot < shard.first {
            return Err(NotRemembered::Unknown);
        }
        // Under whatever time: a client makes another id for each proof.
        if shard.slots.values().any(|slot| slot.ids.contains(&id)) {
            return Err(NotRemembered::Again);
        }
        let of_key = shard.slots.values().filter_map(|slot| slot.of_keys.get(&key)).sum::<usize>();
        if of_key >= self.capacity_of_key {
            return Err(NotRemembered::Full);
        }
        // Counted first, so that there are never more, however many come at once.
        if self.count.fetch_add(1, Relaxed) >= self.capacity {
            self.count.fetch_sub(1, Relaxed);
            return Err(NotRemembered::Full);
        }
        let slot = shard.slots.entry(slot).or_default();
        slot.ids.insert(id);
        *slot.of_keys.entry(key).or_default() += 1;
        Ok(())
    }

    /// How many proofs are remembered, those that are over and not dropped yet included.
    pub(super) fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    fn slot(&self, time: Timestamp) -> i64 {
        time.as_millis().div_euclid(self.slot_millis)
    }

    /// Drops the slots of which all proofs are over.
    fn drop_ended(&self, shard: &mut ReplayShard, now: Timestamp) {
        let current = self.slot(now);
        while let Some(entry) = shard.slots.first_entry()
            && *entry.key() < current
        {
            let (slot, ended) = entry.remove_entry();
            shard.first = slot + 1;
            self.count.fetch_sub(ended.ids.len(), Relaxed);
        }
    }
}

/// A panic between lock and unlock leaves a set of numbers, which is as good as before.
fn lock(shard: &Mutex<ReplayShard>) -> MutexGuard<'_, ReplayShard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ReplayMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayMemory").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(8);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    /// Remembers a proof of this key with this number.
    fn remember(
        memory: &ReplayMemory,
        (key, id): (u64, u128),
        ends: i64,
        now: i64,
    ) -> Result<(), NotRemembered> {
        memory.remember(ProofId { key, id, ends: at(ends) }, at(now))
    }

    #[test]
    fn a_proof_is_accepted_once_until_it_ends() {
        let memory = ReplayMemory::new(100, WINDOW);
        for now in [0, 1, 7_999] {
            let expected = if now == 0 { Ok(()) } else { Err(NotRemembered::Again) };
            assert_eq!(remember(&memory, (1, 1), 8_000, now), expected, "{now}");
        }
        assert_eq!(remember(&memory, (1, 2), 8_000, 0), Ok(()));
        assert_eq!(memory.len(), 2);
    }

    #[test]
    fn what_is_over_makes_room_in_all_shards_and_nothing_else_does() {
        let memory = ReplayMemory::new(100, WINDOW);
        for number in 0..100 {
            assert_eq!(remember(&memory, (number, number.into()), 1_500, 0), Ok(()));
        }
        assert_eq!(remember(&memory, (100, 100), 9_000, 1_499), Err(NotRemembered::Full));
        assert_eq!(remember(&memory, (5, 5), 1_500, 1_499), Err(NotRemembered::Again));
        assert_eq!(remember(&memory, (100, 100), 9_000, 2_000), Ok(()));
        assert_eq!(memory.len(), 1);
    }

    #[test]
    fn one_key_takes_a_part_only_and_keeps_out_no_other() {
        let memory = ReplayMemory::new(100, WINDOW);
        for id in 0..10 {
            // In several slots.
            let ends = 1_500 + i64::try_from(id).unwrap() * 500;
            assert_eq!(remember(&memory, (1, id), ends, 0), Ok(()));
        }
        assert_eq!(remember(&memory, (1, 10), 7_000, 0), Err(NotRemembered::Full));
        // Another one of the same shard.
        assert_eq!(remember(&memory, (1 + u64::from(SHARDS), 11), 7_000, 0), Ok(()));
        assert_eq!(remember(&memory, (1, 10), 9_000, 2_000), Ok(()));
    }

    #[test]
    fn what_was_forgotten_is_not_accepted_again_by_a_clock_that_was_set_back() {
        let memory = ReplayMemory::new(100, WINDOW);
        assert_eq!(remember(&memory, (1, 1), 1_000, 0), Ok(()));
        // Another one of the same shard, when the first is over.
        assert_eq!(remember(&memory, (1, 2), 9_000, 5_000), Ok(()));
        assert_eq!(remember(&memory, (1, 1), 1_000, 0), Err(NotRemembered::Unknown));
    }

    #[test]
    fn an_id_is_not_accepted_again_under_another_time() {
        let memory = ReplayMemory::new(100, WINDOW);
        assert_eq!(remember(&memory, (1, 1), 1_000, 0), Ok(()));
        for ends in [999, 5_000, 16_000] {
            assert_eq!(remember(&memory, (1, 1), ends, 500), Err(NotRemembered::Again), "{ends}");
        }
    }

    proptest! {
        #[test]
        fn no_proof_is_accepted_twice(
            steps in prop::collection::vec((0..30_u64, 1..16_i64, -3..20_i64), 1..200),
        ) {
            let capacity = 20;
            let memory = ReplayMemory::new(capacity, WINDOW);
            let mut accepted: HashSet<(u64, i64)> = HashSet::new();
            let (mut now, mut latest) = (0_i64, 0_i64);
            for (id, ends, step) in steps {
                now = (now + step * 100).max(0);
                latest = latest.max(now);
                let ends = now / 1_000 * 1_000 + ends * 1_000;
                let key = id % 15;
                let live = || accepted.iter().filter(|(_, ends)| *ends > latest);
                match remember(&memory, (key, id.into()), ends, now) {
                    Ok(()) => {
                        prop_assert!(live().count() < capacity);
                        prop_assert!(live().filter(|(known, _)| known % 15 == key).count() < 2);
                        prop_assert!(live().all(|(known, _)| *known != id));
                        prop_assert!(accepted.insert((id, ends)));
                    }
                    Err(NotRemembered::Again) => {
                        prop_assert!(accepted.iter().any(|(known, _)| *known == id));
                    }
                    Err(NotRemembered::Full | NotRemembered::Unknown) => {}
                }
                prop_assert!(memory.len() <= capacity);
            }
        }
    }
}
