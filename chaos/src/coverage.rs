//! Coverage of the runs: for each kind of fault, the number of injections, of revocations under way
//! and of missed revocations, and the upper bound of the miss rate that follows.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};

use crate::{
    checker::Findings,
    fault::{FaultKind, RECOVERED_WITHIN},
    history::History,
    moment::{Moment, Span},
    plan::PlannedGroup,
};

/// Coverage of all runs.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    kinds: BTreeMap<FaultKind, Counts>,
    /// Simultaneous faults, by their names.
    pairs: BTreeMap<String, Counts>,
    /// Runs by set-up.
    setups: BTreeMap<String, Counts>,
}

/// Counts for one kind of fault, one pair or one set-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Injected faults, or runs.
    pub injected: u64,
    /// Revocations that began or were acknowledged while it lasted.
    pub under_way: u64,
    /// How many of those were missed.
    pub missed: u64,
    /// Faults, or runs, with at least one miss.
    pub with_misses: u64,
}

// === impl Coverage ===

impl Coverage {
    /// Adds a run.
    pub fn add(&mut self, history: &History, groups: &[PlannedGroup], findings: &Findings) {
        for fault in &history.faults {
            let counts = counts_in(history, fault.span.began, fault.healed, findings);
            self.kinds.entry(fault.kind).or_default().add(counts);
        }
        for group in groups.iter().filter(|group| group.faults.len() > 1) {
            let mut names: Vec<_> = group.faults.iter().map(|fault| fault.kind.name()).collect();
            names.sort_unstable();
            let of_it = |kind| history.faults.iter().filter(move |fault| fault.kind == kind);
            let all: Vec<_> = group.faults.iter().flat_map(|fault| of_it(fault.kind)).collect();
            let began = all.iter().map(|fault| fault.span.began).min().unwrap_or_default();
            let healed = all.iter().map(|fault| fault.healed).max().unwrap_or_default();
            let counts = counts_in(history, began, healed, findings);
            self.pairs.entry(names.join(" + ")).or_default().add(counts);
        }
        let missed = findings.missed.len() as u64;
        let under_way = history.revocations.len() as u64;
        let of_run = Counts { injected: 1, under_way, missed, with_misses: missed.min(1) };
        self.setups.entry(history.setup.name()).or_default().add(of_run);
    }

    /// The counts of each kind of fault that was injected.
    #[must_use]
    pub const fn kinds(&self) -> &BTreeMap<FaultKind, Counts> {
        &self.kinds
    }

    /// The counts of a kind of fault.
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> Counts {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// The set-ups of the runs.
    pub fn setups(&self) -> impl Iterator<Item = &str> {
        self.setups.keys().map(String::as_str)
    }

    /// The figures as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let kinds: Map<_, _> = FaultKind::ALL
            .iter()
            .map(|kind| (kind.name().to_owned(), self.of(*kind).json()))
            .collect();
        let named = |counts: &BTreeMap<String, Counts>| -> Map<_, _> {
            counts.iter().map(|(name, counts)| (name.clone(), counts.json())).collect()
        };
        json!({"kinds": kinds, "pairs": named(&self.pairs), "setups": named(&self.setups)})
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["injected", "under way", "missed", "misses <", "of faults <"];
        let [injected, under_way, missed, of_revocations, of_faults] = titles;
        write!(out, "\n{:<52}{injected:>9}{under_way:>11}{missed:>8}", "fault (bounds: 95 %)")?;
        writeln!(out, "{of_revocations:>11}{of_faults:>13}")?;
        for kind in FaultKind::ALL {
            self.of(kind).write(out, kind.name())?;
        }
        for (name, counts) in &self.pairs {
            counts.write(out, name)?;
        }
        for (name, counts) in &self.setups {
            counts.write(out, &format!("runs: {name}"))?;
        }
        writeln!(out)
    }
}

/// The counts of one fault.
fn counts_in(history: &History, began: Moment, healed: Moment, findings: &Findings) -> Counts {
    let lasted = Span::new(began, healed.plus(RECOVERED_WITHIN));
    let meets = |place: &usize| {
        history.revocations.get(*place).is_some_and(|one| {
            Span::new(one.began, one.acknowledged.unwrap_or(one.began)).meets(lasted)
        })
    };
    let under_way = (0..history.revocations.len()).filter(meets).count() as u64;
    let missed = findings.missed.iter().filter(|place| meets(place)).count() as u64;
    Counts { injected: 1, under_way, missed, with_misses: missed.min(1) }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, other: Self) {
        self.injected += other.injected;
        self.under_way += other.under_way;
        self.missed += other.missed;
        self.with_misses += other.with_misses;
    }

    /// Upper bounds at 95 % confidence of the miss rate of revocations under way, and of the rate
    /// of faults with misses.
    #[must_use]
    pub fn bounds(self) -> [f64; 2] {
        [upper_bound(self.missed, self.under_way), upper_bound(self.with_misses, self.injected)]
    }

    fn json(self) -> Value {
        let [revocations, faults] = self.bounds();
        json!({
            "injected": self.injected,
            "revocations_under_way": self.under_way,
            "missed": self.missed,
            "miss_rate_below": revocations,
            "fault_with_miss_rate_below": faults,
        })
    }

    fn write(self, out: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let Self { injected, under_way, missed, .. } = self;
        let [revocations, faults] = self.bounds().map(|bound| format!("{:.2} %", bound * 1e2));
        writeln!(
            out,
            "{name:<52}{injected:>9}{under_way:>11}{missed:>8}{revocations:>11}{faults:>13}"
        )
    }
}

/// The upper end of the one-sided 95 % confidence interval of a rate, for this number of events in
/// this number of trials: 3/n without events.
fn upper_bound(events: u64, trials: u64) -> f64 {
    if trials == 0 {
        return 1.0;
    }
    let float = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    // Poisson: half of the chi-squared quantile, by the Wilson-Hilferty approximation.
    let freedom = 2.0 * (float(events) + 1.0);
    let spread = 2.0 / (9.0 * freedom);
    let quantile = freedom * (1.0 - spread + 1.645 * spread.sqrt()).powi(3);
    let most = if events == 0 { 3.0 } else { quantile / 2.0 };
    (most / float(trials)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_3_over_n_without_misses_and_grows_with_them() {
        assert!((upper_bound(0, 300) - 0.01).abs() < 1e-9);
        assert!((upper_bound(0, 0) - 1.0).abs() < 1e-9, "without trials, any rate is possible");
        assert!((upper_bound(0, 2) - 1.0).abs() < 1e-9, "a rate is at most one");
        // The exact values are 4.744 and 7.754.
        assert!((upper_bound(1, 1000) - 0.004_744).abs() < 2e-5);
        assert!((upper_bound(3, 1000) - 0.007_754).abs() < 2e-5);
    }
}
