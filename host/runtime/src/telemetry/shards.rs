//! Sharding of hot counters over the cores, so that cores do not contend for cache lines.
//!
//! Which thread uses which shard affects only speed: any thread may use any shard.

use std::thread::available_parallelism;

/// More shards than this cost more memory than they save time.
const MAX_SHARDS: usize = 16;

thread_local! {
    /// Holds nothing. Its address differs from thread to thread and is the cheapest way to tell
    /// one from another.
    static HERE: u8 = const { 0 };
}

/// One `T` per core, roughly.
#[derive(Debug)]
pub(super) struct Shards<T>(Box<[Padded<T>]>);

/// Aligns neighbours to two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Default for Shards<T> {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let count = cores.next_power_of_two().min(MAX_SHARDS);
        Self((0..count).map(|_| Padded::default()).collect())
    }
}

impl<T> Shards<T> {
    /// The calling thread's shard.
    pub(super) fn mine(&self) -> &T {
        let address = HERE.with(|here| std::ptr::from_ref(here).addr()) as u64;
        // Thread-local blocks lie at round addresses; multiplying by 2^64 divided by the golden
        // ratio moves the digits that differ to the top.
        let spread = address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        let index = usize::try_from(spread).unwrap_or(0) & (self.0.len() - 1);
        &self.0[index].0
    }

    /// Every shard, to add them up.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    #[test]
    fn what_many_threads_count_adds_up() {
        let shards = Shards::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        shards.mine().fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(shards.iter().map(|shard| shard.load(Relaxed)).sum::<u64>(), 8000);
    }
}
