//! Owns the generations of entries: each complete reading of a table begins a new one, and what the
//! table no longer has stays behind in an older one.

/// The readings of a table. Without any, all entries are of the first generation, and stay.
#[derive(Debug, Default)]
pub(super) struct Generations {
    /// That of what is added now.
    current: u32,
    /// That of the last reading that came to its end.
    complete: u32,
    /// Older ones have been swept.
    swept: u32,
    /// How many entries are of the current one.
    seen: usize,
}

// === impl Generations ===

impl Generations {
    /// A reading begins. The one before it may not have come to its end.
    pub(super) fn begin(&mut self) {
        self.current = self.current.saturating_add(1);
        self.seen = 0;
    }

    /// The reading has come to its end. Of all entries, `entries` in number, those that it has not
    /// seen are to be swept. An entry that was seen and removed since may hide one that is missing:
    /// that one stays until the next reading.
    pub(super) fn end(&mut self, entries: usize) {
        self.complete = self.current;
        if self.seen == entries {
            self.swept = self.complete;
        }
    }

    /// The generation of an entry that is added now and was of the generation `before`.
    pub(super) fn see(&mut self, before: Option<u32>) -> u32 {
        self.seen += usize::from(before != Some(self.current));
        self.current
    }

    /// Whether an entry of this generation was missing when the table was last read completely.
    pub(super) const fn is_missing(&self, generation: u32) -> bool {
        generation < self.complete
    }

    /// Whether there may be missing entries.
    pub(super) const fn owes_sweep(&self) -> bool {
        self.swept != self.complete
    }

    /// They are gone.
    pub(super) const fn swept(&mut self) {
        self.swept = self.complete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_reading_nothing_is_missing() {
        let mut generations = Generations::default();
        let generation = generations.see(None);
        assert!(!generations.is_missing(generation) && !generations.owes_sweep());
    }

    #[test]
    fn what_a_complete_reading_does_not_see_is_missing() {
        let mut generations = Generations::default();
        let [gone, kept] = [generations.see(None), generations.see(None)];
        generations.begin();
        let heard = generations.see(None);
        let kept = generations.see(Some(kept));
        assert!(!generations.is_missing(gone), "the reading is under way");
        generations.end(3);
        assert!(generations.is_missing(gone) && generations.owes_sweep());
        assert!(!generations.is_missing(kept) && !generations.is_missing(heard));
        generations.swept();
        assert!(!generations.owes_sweep());
    }

    #[test]
    fn a_reading_without_an_end_makes_nothing_missing() {
        let mut generations = Generations::default();
        generations.begin();
        let [unseen, seen] = [generations.see(None), generations.see(None)];
        generations.end(2);
        generations.begin();
        let seen = generations.see(Some(seen));
        assert!(!generations.is_missing(unseen) && !generations.is_missing(seen));
        generations.begin();
        generations.end(2);
        assert!(generations.is_missing(unseen) && generations.is_missing(seen));
    }

    #[test]
    fn a_reading_that_sees_everything_leaves_nothing_to_sweep() {
        let mut generations = Generations::default();
        let generation = generations.see(None);
        generations.begin();
        let again = generations.see(Some(generation));
        generations.see(Some(again));
        generations.end(1);
        assert!(!generations.owes_sweep());
    }
}
