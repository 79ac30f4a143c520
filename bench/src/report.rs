//! Report of the benchmark: a table, ratios first, and the same figures as JSON.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use crate::{
    isolation::IsolationRow, micro::Step, proc::Memory, remembered::Remembered, rounds::Measured,
    series::Series, swaps::SwapRow,
};

/// The server that the others are compared with.
pub(crate) const BASE: &str = "empty";

/// Memory and start-up time of a process of Portcullis.
pub(crate) struct Footprint {
    /// The server's name.
    pub(crate) name: &'static str,
    /// From the start of the process to readiness, in milliseconds.
    pub(crate) ready_ms: f64,
    /// Memory when ready, with an empty blacklist.
    pub(crate) empty: Memory,
    /// Memory with all entries loaded.
    pub(crate) loaded: Memory,
    /// Number of entries loaded.
    pub(crate) entries: u64,
}

/// All results.
pub(crate) struct Report {
    /// The conditions of the measurement, as name and value.
    pub(crate) conditions: Vec<(&'static str, u64)>,
    /// The servers, the base among them if it was measured.
    pub(crate) servers: Vec<Measured>,
    /// Memory and start-up time of each process of Portcullis.
    pub(crate) footprints: Vec<Footprint>,
    /// Memory of the token cache.
    pub(crate) remembered: Option<Remembered>,
    /// The cost of each step of a decision.
    pub(crate) steps: Vec<Step>,
    /// The rows of the isolation benchmark, by the name of the build.
    pub(crate) isolation: Vec<(&'static str, Vec<IsolationRow>)>,
    /// The rows of the swap benchmark, by the name of the build.
    pub(crate) swaps: Vec<(&'static str, Vec<SwapRow>)>,
}

// === impl Footprint ===

impl Footprint {
    /// Resident memory per million entries, in megabytes (10^6 bytes). None without entries.
    fn megabytes_per_million(&self) -> Option<f64> {
        let grown = megabytes(self.loaded.resident) - megabytes(self.empty.resident);
        (self.entries > 0).then(|| grown * 1e6 / float(self.entries))
    }
}

// === impl Report ===

impl Report {
    /// The figures as JSON.
    pub(crate) fn json(&self) -> Value {
        let conditions: serde_json::Map<_, _> = self
            .conditions
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        json!({
            "conditions": conditions,
            "servers": self.servers.iter().map(|server| self.server(server)).collect::<Vec<_>>(),
            "processes": self.footprints.iter().map(footprint).collect::<Vec<_>>(),
            "remembered": self.remembered.as_ref().map(remembered),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "isolation": self.rows().map(|(name, row)| isolation(name, row)).collect::<Vec<_>>(),
            "swaps": self.swap_rows().map(|(name, row)| swap(name, row)).collect::<Vec<_>>(),
        })
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, &IsolationRow)> {
        self.isolation.iter().flat_map(|(name, rows)| rows.iter().map(|row| (*name, row)))
    }

    fn swap_rows(&self) -> impl Iterator<Item = (&'static str, &SwapRow)> {
        self.swaps.iter().flat_map(|(name, rows)| rows.iter().map(|row| (*name, row)))
    }

    fn base(&self) -> Option<&Measured> {
        self.servers.iter().find(|server| server.name == BASE)
    }

    fn server(&self, server: &Measured) -> Value {
        let figures = [
            ("requests_per_second", server.requests_per_second()),
            ("cpu_us_per_request", server.cpu_us_per_request()),
            ("p50_us", server.p50_us()),
            ("p99_us", server.p99_us()),
        ];
        let ratios = self.base().map(|base| {
            [
                ("throughput_ratio", server.throughput_ratio(base)),
                ("cpu_ratio", server.cpu_ratio(base)),
            ]
        });
        let mut value = json!({"name": server.name, "spread": {}});
        for (name, series) in figures.into_iter().chain(ratios.into_iter().flatten()) {
            value[name] = json!(series.median());
            value["spread"][name] = json!(series.spread());
        }
        value
    }

    fn write_ratios(&self, out: &mut fmt::Formatter<'_>, base: &Measured) -> fmt::Result {
        writeln!(out, "{:<18}{:>24}{:>24}", "against `empty`", "throughput", "CPU per request")?;
        for server in self.servers.iter().filter(|server| server.name != BASE) {
            let throughput = spread(&server.throughput_ratio(base), 2);
            let cpu = spread(&server.cpu_ratio(base), 2);
            writeln!(out, "{:<18}{throughput:>24}{cpu:>24}", server.name)?;
        }
        out.write_char('\n')
    }

    fn write_figures(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["requests/s", "CPU us/request", "p50 us", "p99 us"];
        write!(out, "{:<18}", "median (spread)")?;
        titles.iter().try_for_each(|title| write!(out, "{title:>24}"))?;
        out.write_char('\n')?;
        for server in &self.servers {
            let figures = [
                spread(&server.requests_per_second(), 0),
                spread(&server.cpu_us_per_request(), 1),
                spread(&server.p50_us(), 0),
                spread(&server.p99_us(), 0),
            ];
            write!(out, "{:<18}", server.name)?;
            figures.iter().try_for_each(|figure| write!(out, "{figure:>24}"))?;
            out.write_char('\n')?;
        }
        out.write_char('\n')
    }

    fn write_footprints(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["ready ms", "MB empty", "MB loaded", "MB peak", "MB per million"];
        write!(out, "{:<18}", "process")?;
        titles.iter().try_for_each(|title| write!(out, "{title:>16}"))?;
        out.write_char('\n')?;
        for print in &self.footprints {
            let figures = [
                Some(print.ready_ms),
                Some(megabytes(print.empty.resident)),
                Some(megabytes(print.loaded.resident)),
                Some(megabytes(print.loaded.peak)),
                print.megabytes_per_million(),
            ];
            write!(out, "{:<18}", print.name)?;
            for figure in figures {
                let text = figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.0}"));
                write!(out, "{text:>16}")?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }

    fn write_isolation(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["callers", "slow/s", "other p50", "other max", "in 50 ms %", "livez max"];
        write!(out, "{:<22}", "isolation (ms)")?;
        titles.iter().try_for_each(|title| write!(out, "{title:>12}"))?;
        out.write_char('\n')?;
        for (name, row) in self.rows() {
            write!(out, "{:<22}{:>12}", format!("{name}, {}", row.attack), row.callers)?;
            let [_, other_max] = row.other.spread();
            let [_, livez_max] = row.livez.spread();
            let share = row.within_promise();
            for figure in [row.attacked_per_second, row.other.median(), other_max, share, livez_max]
            {
                write!(out, "{figure:>12.1}")?;
            }
            out.write_char('\n')?;
        }
        out.write_char('\n')
    }

    fn write_swaps(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["rules", "busy loops", "swaps", "answers", "denied"];
        write!(out, "{:<22}", "swaps")?;
        titles.iter().try_for_each(|title| write!(out, "{title:>12}"))?;
        out.write_char('\n')?;
        for (name, row) in self.swap_rows() {
            let SwapRow { rules, busy, swaps, answers, denied } = row;
            writeln!(out, "{name:<22}{rules:>12}{busy:>12}{swaps:>12}{answers:>12}{denied:>12}")?;
        }
        out.write_char('\n')
    }

    fn write_remembered(out: &mut fmt::Formatter<'_>, found: &Remembered) -> fmt::Result {
        writeln!(
            out,
            "{} different tokens of {} bytes: {:.0} MB before, {:.0} MB after, {:.0} MB at most; \
             {:.0} bytes for each",
            found.tokens,
            found.token_bytes,
            megabytes(found.before.resident),
            megabytes(found.after.resident),
            megabytes(found.after.peak),
            bytes_each(found),
        )?;
        out.write_char('\n')
    }

    fn write_steps(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:<18}{:>24}", "step", "median ns")?;
        for step in &self.steps {
            writeln!(out, "{:<18}{:>24.0}", step.name, step.ns)?;
        }
        out.write_char('\n')
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_char('\n')?;
        if let Some(base) = self.base().filter(|_| self.servers.len() > 1) {
            self.write_ratios(out, base)?;
        }
        if !self.servers.is_empty() {
            self.write_figures(out)?;
        }
        if !self.footprints.is_empty() {
            self.write_footprints(out)?;
            out.write_char('\n')?;
        }
        if let Some(found) = &self.remembered {
            Self::write_remembered(out, found)?;
        }
        if !self.steps.is_empty() {
            self.write_steps(out)?;
        }
        if !self.isolation.is_empty() {
            self.write_isolation(out)?;
        }
        if !self.swaps.is_empty() {
            self.write_swaps(out)?;
        }
        let conditions = self.conditions.iter().map(|(name, value)| format!("{name} {value}"));
        writeln!(out, "{}", conditions.collect::<Vec<_>>().join(", "))
    }
}

fn footprint(print: &Footprint) -> Value {
    json!({
        "name": print.name,
        "ready_ms": print.ready_ms,
        "resident_mb_empty": megabytes(print.empty.resident),
        "resident_mb_loaded": megabytes(print.loaded.resident),
        "peak_mb": megabytes(print.loaded.peak),
        "resident_mb_per_million_entries": print.megabytes_per_million(),
    })
}

fn remembered(found: &Remembered) -> Value {
    json!({
        "tokens": found.tokens,
        "token_bytes": found.token_bytes,
        "resident_mb_before": megabytes(found.before.resident),
        "resident_mb_after": megabytes(found.after.resident),
        "peak_mb": megabytes(found.after.peak),
        "bytes_per_token": bytes_each(found),
    })
}

/// Resident memory per token.
fn bytes_each(found: &Remembered) -> f64 {
    (float(found.after.resident) - float(found.before.resident)) / float(found.tokens)
}

fn step(step: &Step) -> Value {
    json!({"name": step.name, "ns": step.ns})
}

fn isolation(name: &str, row: &IsolationRow) -> Value {
    json!({
        "name": name,
        "attack": row.attack,
        "callers": row.callers,
        "attacked_per_second": row.attacked_per_second,
        "other_p50_ms": row.other.median(),
        "other_ms": row.other.spread(),
        "other_within_50_ms_percent": row.within_promise(),
        "livez_p50_ms": row.livez.median(),
        "livez_ms": row.livez.spread(),
    })
}

fn swap(name: &str, row: &SwapRow) -> Value {
    json!({
        "name": name,
        "rules": row.rules,
        "busy_loops": row.busy,
        "swaps": row.swaps,
        "answers": row.answers,
        "denied": row.denied,
    })
}

/// A median, and the range that it comes from.
fn spread(series: &Series, digits: usize) -> String {
    let [low, high] = series.spread();
    format!("{:.digits$} ({low:.digits$}-{high:.digits$})", series.median())
}

fn megabytes(bytes: u64) -> f64 {
    float(bytes) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "bytes and entries, far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}
