//! Owns how the findings are told: a table to read, and the same figures as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    checker::{Findings, Violation, union},
    fault::FaultKind,
    figures::Figures,
    history::{History, Span},
    propagation::{Propagation, Times},
};

/// All that was found in all runs.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// As name and value.
    conditions: Vec<(&'static str, String)>,
    runs: u64,
    faults: BTreeMap<FaultKind, u64>,
    /// How old a ready replica's set ever was, by fault.
    staleness: BTreeMap<FaultKind, Duration>,
    checks: u64,
    revocations: u64,
    unacknowledged: u64,
    failed: BTreeMap<Option<FaultKind>, u64>,
    excused: u64,
    /// How long the runs lasted, and for how much of it the machine stood still: time that the
    /// bound does not count.
    lasted: Duration,
    stalled: Duration,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// How long revocations took.
    pub propagation: Propagation,
    /// What was measured apart from the runs.
    pub figures: Figures,
}

/// Bounds of the bars, in milliseconds.
pub(crate) const BOUNDS: [f64; 12] =
    [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 1000.0];
/// The longest bar of text.
const WIDTH: usize = 50;

// === impl Report ===

impl Report {
    /// A report without runs yet, and how those to come come about, as name and value.
    #[must_use]
    pub fn new(conditions: Vec<(&'static str, String)>) -> Self {
        Self { conditions, ..Self::default() }
    }

    /// Takes in a run and what the checker found in it.
    pub fn add(&mut self, history: &History, findings: Findings) {
        self.runs += 1;
        self.checks += history.checks.len() as u64;
        for fault in &history.faults {
            *self.faults.entry(fault.kind).or_default() += 1;
            let within =
                history.ages.iter().filter(|age| fault.span.meets(Span::new(age.at, age.at)));
            let oldest = within.map(|age| age.staleness).max().unwrap_or_default();
            let known = self.staleness.entry(fault.kind).or_default();
            *known = oldest.max(*known);
        }
        for revocation in &history.revocations {
            match revocation.acknowledged {
                Some(_) => self.revocations += 1,
                None => self.unacknowledged += 1,
            }
        }
        for (fault, count) in findings.failed {
            *self.failed.entry(fault).or_default() += count;
        }
        self.excused += findings.excused;
        self.lasted += history.lasted();
        self.stalled += union(history.stalls.clone());
        self.violations.extend(findings.violations);
        self.propagation.add(history);
    }

    /// How often each kind of fault was injected.
    #[must_use]
    pub const fn faults(&self) -> &BTreeMap<FaultKind, u64> {
        &self.faults
    }

    /// The figures as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let count = |fault: &FaultKind| json!(self.faults.get(fault).copied().unwrap_or_default());
        let faults: Map<_, _> =
            FaultKind::ALL.iter().map(|kind| (kind.name().to_owned(), count(kind))).collect();
        let failed: Map<_, _> = self
            .failed
            .iter()
            .map(|(fault, count)| (name(*fault).to_owned(), json!(count)))
            .collect();
        let staleness: Map<_, _> = self
            .staleness
            .iter()
            .map(|(kind, age)| (kind.name().to_owned(), json!(age.as_millis())))
            .collect();
        let conditions: Map<_, _> = self
            .conditions
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let mut report = json!({
            "runs": self.runs,
            "faults": faults,
            "checks": self.checks,
            "revocations": self.revocations,
            "violations": self.violations.len(),
            "propagation_ms": times(&self.propagation.quiet),
            "propagation_under_faults_ms": times(&self.propagation.all),
            "failed_checks": failed,
            "staleness_ms": staleness,
            "checks_of_dead_replicas": self.excused,
            "unacknowledged_revocations": self.unacknowledged,
            "lasted_ms": self.lasted.as_millis(),
            "stalled_ms": self.stalled.as_millis(),
            "conditions": conditions,
        });
        for (name, value) in self.figures.json() {
            report[name] = value;
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["injected", "failed checks", "staleness ms"];
        writeln!(out, "\n{:<28}{:>10}{:>16}{:>16}", "fault", titles[0], titles[1], titles[2])?;
        let failed = |fault| self.failed.get(&fault).copied().unwrap_or_default();
        for kind in FaultKind::ALL {
            let injected = self.faults.get(&kind).copied().unwrap_or_default();
            let staleness = self.staleness.get(&kind).copied().unwrap_or_default().as_millis();
            let failed = failed(Some(kind));
            writeln!(out, "{kind:<28}{injected:>10}{failed:>16}{staleness:>16}")?;
        }
        writeln!(out, "{:<28}{:>10}{:>16}", name(None), "", failed(None))?;
        writeln!(out)?;
        let (done, open) = (self.revocations, self.unacknowledged);
        writeln!(out, "{:<28}{:>10}", "runs", self.runs)?;
        writeln!(out, "{:<28}{:>10}", "Checks", self.checks)?;
        writeln!(out, "{:<28}{done:>10}  ({open} more were not acknowledged)", "revocations")?;
        writeln!(out, "{:<28}{:>10}", "violations", self.violations.len())?;
        let [lasted, stalled] = [self.lasted, self.stalled].map(|time| time.as_secs_f64());
        writeln!(
            out,
            "{:<28}{lasted:>8.1} s  (the machine stood still for {stalled:.1} s, which do not count)",
            "lasted"
        )?;
        writeln!(out)?;
        write_times(out, "published -> denied on all replicas, no fault", &self.propagation.quiet)?;
        write_times(out, "the same, under all faults", &self.propagation.all)?;
        write!(out, "{}", self.figures)?;
        let conditions = self.conditions.iter().map(|(name, value)| format!("{name} {value}"));
        writeln!(out, "{}", conditions.collect::<Vec<_>>().join(", "))
    }
}

/// A fault in reports, or that there was none.
fn name(fault: Option<FaultKind>) -> &'static str {
    fault.map_or("no fault", FaultKind::name)
}

/// A distribution as JSON, in milliseconds.
pub(crate) fn times(times: &Times) -> Value {
    json!({
        "p50": times.quantile(0.5),
        "p99": times.quantile(0.99),
        "max": times.max(),
        "count": times.count(),
    })
}

/// What a bar stands for.
pub(crate) fn label(place: usize) -> String {
    match (BOUNDS.get(place), BOUNDS.last()) {
        (Some(bound), _) => format!("<= {bound} ms"),
        (None, Some(last)) => format!("> {last} ms"),
        (None, None) => String::new(),
    }
}

fn write_times(out: &mut fmt::Formatter<'_>, title: &str, times: &Times) -> fmt::Result {
    let [half, most] = [times.quantile(0.5), times.quantile(0.99)];
    writeln!(out, "{title}: {} revocations", times.count())?;
    writeln!(out, "  p50 {half:.2} ms, p99 {most:.2} ms, max {:.2} ms", times.max())?;
    let buckets = times.buckets(&BOUNDS);
    let longest = buckets.iter().copied().max().unwrap_or_default().max(1);
    for (place, count) in buckets.iter().enumerate() {
        let share = usize::try_from(count * WIDTH as u64 / longest).unwrap_or_default();
        let bar = "#".repeat(if *count > 0 { share.max(1) } else { 0 });
        writeln!(out, "  {:>10} {count:>7} {bar}", label(place))?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests;
