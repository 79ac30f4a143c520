//! Report of the findings, as readable tables and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    checker::{Findings, Late, Violation, union},
    coverage::Coverage,
    fault::FaultKind,
    figures::Figures,
    history::History,
    moment::Span,
    plan::PlannedGroup,
    propagation::{Propagation, Times},
};

/// The findings of all runs.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// As name and value.
    conditions: Vec<(&'static str, String)>,
    runs: u64,
    /// How often each kind of fault was injected, and which revocations were missed.
    pub coverage: Coverage,
    /// The largest staleness that a replica reported, by fault.
    staleness: BTreeMap<FaultKind, Duration>,
    checks: u64,
    revocations: u64,
    unrevocations: u64,
    unacknowledged: u64,
    late: BTreeMap<Option<FaultKind>, Late>,
    late_unrevocations: Late,
    lost_again: u64,
    /// Seeds of runs with violations.
    seeds: Vec<u64>,
    failed: BTreeMap<Option<FaultKind>, u64>,
    excused: u64,
    /// How long the runs lasted, and how much of that the machine was stalled: time that the bound
    /// does not count.
    lasted: Duration,
    stalled: Duration,
    /// The mean load of each run, in threads for each processor.
    loads: Vec<f64>,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// How long revocations took.
    pub propagation: Propagation,
    /// Figures that are measured apart from the runs.
    pub figures: Figures,
}

/// Bounds of the bars, in milliseconds.
pub(crate) const BOUNDS: [f64; 12] =
    [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 1000.0];
/// The longest bar of text.
const WIDTH: usize = 50;

// === impl Report ===

impl Report {
    /// An empty report; the conditions of its runs are given as name and value.
    #[must_use]
    pub fn new(conditions: Vec<(&'static str, String)>) -> Self {
        Self { conditions, ..Self::default() }
    }

    /// The number of runs.
    #[must_use]
    pub const fn runs(&self) -> u64 {
        self.runs
    }

    /// Adds a run and the findings of the checker.
    pub fn add(&mut self, history: &History, groups: &[PlannedGroup], findings: Findings) {
        self.runs += 1;
        self.checks += history.checks.len() as u64;
        self.coverage.add(history, groups, &findings);
        for fault in &history.faults {
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
        self.unrevocations +=
            history.unrevocations.iter().filter(|one| one.acknowledged.is_some()).count() as u64;
        for (fault, late) in &findings.late {
            self.late.entry(*fault).or_default().merge(*late);
        }
        self.late_unrevocations.merge(findings.late_unrevocations);
        self.lost_again += findings.lost_again.len() as u64;
        self.loads.push(history.load.mean());
        self.seeds.extend(findings.violations.first().map(|violation| violation.seed));
        for (fault, count) in findings.failed {
            *self.failed.entry(fault).or_default() += count;
        }
        self.excused += findings.excused;
        self.lasted += history.lasted();
        self.stalled += union(history.stalls.clone());
        self.violations.extend(findings.violations);
        self.propagation.add(history);
    }

    /// The figures as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let count = |kind: FaultKind| json!(self.coverage.of(kind).injected);
        let faults: Map<_, _> =
            FaultKind::ALL.iter().map(|kind| (kind.name().to_owned(), count(*kind))).collect();
        let late: Map<_, _> = self
            .late
            .iter()
            .map(|(fault, late)| (name(*fault).to_owned(), late_json(*late)))
            .collect();
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
            "coverage": self.coverage.json(),
            "revocations": self.revocations,
            "removals": self.unrevocations,
            "violations": self.violations.len(),
            "seeds_with_violations": self.seeds,
            "late": late,
            "revoked_again_and_lost_with_key": self.lost_again,
            "late_removals": late_json(self.late_unrevocations),
            "propagation_ms": self.propagation.quiet.json(),
            "propagation_under_faults_ms": self.propagation.all.json(),
            "removal_under_faults_ms": self.propagation.unrevocations.json(),
            "failed_checks": failed,
            "staleness_ms": staleness,
            "excused_refusals": self.excused,
            "unacknowledged_revocations": self.unacknowledged,
            "lasted_ms": self.lasted.as_millis(),
            "stalled_ms": self.stalled.as_millis(),
            "load": self.load(),
            "conditions": conditions,
        });
        for (name, value) in self.figures.json() {
            report[name] = value;
        }
        report
    }
}

impl Report {
    /// The mean load of the runs.
    fn load(&self) -> f64 {
        let runs = u32::try_from(self.loads.len().max(1)).unwrap_or(u32::MAX);
        self.loads.iter().sum::<f64>() / f64::from(runs)
    }

    /// Failed checks, staleness and lateness for each kind of fault.
    fn write_faults(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["failed checks", "staleness ms", "late", "by up to ms"];
        let [failed, staleness, late, longest] = titles;
        writeln!(out, "{:<28}{failed:>16}{staleness:>16}{late:>8}{longest:>14}", "fault")?;
        for fault in FaultKind::ALL.into_iter().map(Some).chain([None]) {
            let failed = self.failed.get(&fault).copied().unwrap_or_default();
            let staleness = fault.and_then(|kind| self.staleness.get(&kind)).copied();
            let staleness = staleness.unwrap_or_default().as_millis();
            let Late { count, longest } = self.late.get(&fault).copied().unwrap_or_default();
            let (name, longest) = (name(fault), longest.as_millis());
            writeln!(out, "{name:<28}{failed:>16}{staleness:>16}{count:>8}{longest:>14}")?;
        }
        let Late { count, longest } = self.late_unrevocations;
        let longest = longest.as_millis();
        writeln!(out, "{:<28}{:>16}{:>16}{count:>8}{longest:>14}", "unrevocations", "", "")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.coverage)?;
        self.write_faults(out)?;
        writeln!(out)?;
        let (done, open) = (self.revocations, self.unacknowledged);
        writeln!(out, "{:<28}{:>10}", "runs", self.runs)?;
        writeln!(out, "{:<28}{:>10}", "Checks", self.checks)?;
        writeln!(out, "{:<28}{done:>10}  ({open} more were not acknowledged)", "revocations")?;
        writeln!(out, "{:<28}{:>10}", "unrevocations", self.unrevocations)?;
        writeln!(out, "{:<28}{:>10}", "excused refusals", self.excused)?;
        let lost = self.lost_again;
        writeln!(
            out,
            "{:<28}{lost:>10}  (with the key: the documented limit)",
            "revoked again, lost"
        )?;
        writeln!(out, "{:<28}{:>10}", "violations", self.violations.len())?;
        if !self.seeds.is_empty() {
            writeln!(out, "{:<28}{:?}", "seeds with violations", self.seeds)?;
        }
        let [lasted, stalled] = [self.lasted, self.stalled].map(|time| time.as_secs_f64());
        writeln!(
            out,
            "{:<28}{lasted:>8.1} s  (the machine was stalled for {stalled:.1} s, which do not count)",
            "lasted"
        )?;
        writeln!(out, "{:<28}{:>8.1} threads per processor", "load", self.load())?;
        writeln!(out)?;
        write_times(out, "published -> denied on all replicas, no fault", &self.propagation.quiet)?;
        write_times(out, "the same, under all faults", &self.propagation.all)?;
        write_times(out, "unrevoked -> allowed by all", &self.propagation.unrevocations)?;
        write!(out, "{}", self.figures)?;
        let conditions = self.conditions.iter().map(|(name, value)| format!("{name} {value}"));
        writeln!(out, "{}", conditions.collect::<Vec<_>>().join(", "))
    }
}

/// The name of a fault in reports, also for none.
fn name(fault: Option<FaultKind>) -> &'static str {
    fault.map_or("no fault", FaultKind::name)
}

fn late_json(late: Late) -> Value {
    json!({"count": late.count, "longest_ms": late.longest.as_millis()})
}

/// The label of a bar.
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
