//! Generations of entries: each complete reading of a table begins a new generation, and entries
//! that the table no longer has stay in an older one.

/// The number of a reading. It wraps, which is safe: after a complete reading there are only
/// entries of its own generation and of the next one.
pub(crate) type Generation = u8;

/// The readings of a table. Without any, all entries are of the first generation, and stay.
#[derive(Debug, Default)]
pub(super) struct Generations {
    /// The generation of entries that are added now.
    current: Generation,
    /// The generation of the last complete reading.
    complete: Generation,
    /// Older ones have been swept.
    swept: Generation,
    /// How many entries belong to the current generation.
    seen: usize,
}

/// Whether an entry of this generation was missing in the complete reading.
pub(super) const fn is_missing(generation: Generation, complete: Generation) -> bool {
    complete.wrapping_sub(generation).cast_signed() > 0
}

// === impl Generations ===

impl Generations {
    /// A reading begins. If the reading before it was not completed, this one continues it: an
    /// entry that was seen then and is gone now stays until the next reading.
    pub(super) const fn begin(&mut self) {
        if self.current == self.complete {
            self.current = self.complete.wrapping_add(1);
            self.seen = 0;
        }
    }

    /// The reading is complete. Of all entries, `entries` in number, those that it has not seen are
    /// to be swept. An entry that was seen and removed since may hide one that is missing: that one
    /// stays until the next reading.
    pub(super) const fn end(&mut self, entries: usize) {
        self.complete = self.current;
        if self.seen == entries {
            self.swept = self.complete;
        }
    }

    /// The generation of an entry that is added now and was of the generation `before`.
    pub(super) fn see(&mut self, before: Option<Generation>) -> Generation {
        self.seen += usize::from(before != Some(self.current));
        self.current
    }

    /// The last complete reading.
    pub(super) const fn complete(&self) -> Generation {
        self.complete
    }

    /// The last complete reading, if there may be entries that were missing in it. They are going
    /// to be swept now.
    pub(super) const fn take_complete(&mut self) -> Option<Generation> {
        let swept = std::mem::replace(&mut self.swept, self.complete);
        if swept == self.complete { None } else { Some(self.complete) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_reading_nothing_is_missing() {
        let mut generations = Generations::default();
        let generation = generations.see(None);
        assert!(!is_missing(generation, generations.complete()));
        assert_eq!(generations.take_complete(), None);
    }

    #[test]
    fn what_a_complete_reading_does_not_see_is_missing() {
        let mut generations = Generations::default();
        // Numbers wrap.
        for _ in 0..1_000 {
            let [gone, kept] = [generations.see(None), generations.see(None)];
            generations.begin();
            let heard = generations.see(None);
            let kept = generations.see(Some(kept));
            assert!(!is_missing(gone, generations.complete()), "the reading is under way");
            generations.end(3);
            let complete = generations.take_complete().unwrap();
            assert!(is_missing(gone, complete) && generations.take_complete().is_none());
            assert!(!is_missing(kept, complete) && !is_missing(heard, complete));
        }
    }

    #[test]
    fn a_reading_without_an_end_makes_nothing_missing() {
        let mut generations = Generations::default();
        let unseen = generations.see(None);
        generations.begin();
        let once = generations.see(None);
        assert!(!is_missing(unseen, generations.complete()));
        generations.begin();
        generations.end(2);
        let complete = generations.take_complete().unwrap();
        assert!(is_missing(unseen, complete) && !is_missing(once, complete));
        generations.begin();
        generations.end(1);
        assert!(is_missing(once, generations.take_complete().unwrap()));
    }

    #[test]
    fn a_reading_that_sees_everything_leaves_nothing_to_sweep() {
        let mut generations = Generations::default();
        let generation = generations.see(None);
        generations.begin();
        let again = generations.see(Some(generation));
        generations.see(Some(again));
        generations.end(1);
        assert_eq!(generations.take_complete(), None);
    }
}
