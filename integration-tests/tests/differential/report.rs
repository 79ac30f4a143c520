//! Report of a run, for the log and for the failure message.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_integration_tests::wire::{Arrival, RawRequest};

use super::{
    oracle::{Disagreement, Oracle, shortest},
    sites::Site,
    stage::{Observed, Outcome},
};

/// How many disagreements of one reader are shown.
const EXAMPLES: usize = 3;

/// Among this many requests, at least one reaches the upstream without a token, and one needs it.
const SMALLEST_SHARE: usize = 20;

/// The sums of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    sent: usize,
    disagreements: usize,
    faults: usize,
    text: String,
}

// === impl Report ===

impl Report {
    /// Adds the findings of a site, and prints its numbers.
    pub(super) fn add(&mut self, site: &Site, oracle: &Oracle) {
        let counts = Counts::of(&oracle.observed);
        println!("{}: {counts}", site.name);
        let is_share = |part: usize| part * SMALLEST_SHARE >= counts.sent;
        if !is_share(counts.allowed) || !is_share(counts.need_token) {
            self.faults += 1;
            self.text += format!("{}: hardly anything was decided: {counts}\n", site.name).as_str();
        }
        self.sent += oracle.observed.len();
        let mut shown = BTreeSet::new();
        for reader in &oracle.readers {
            let comparisons = oracle.comparisons(reader);
            let disagreements = oracle.disagreements(reader);
            println!(
                "  {}: {} readings, {} pairs compared, {} disagreements",
                reader.name,
                comparisons.readings,
                comparisons.pairs,
                disagreements.len()
            );
            if comparisons.pairs == 0 {
                self.faults += 1;
                self.text += format!("{}: {} compared nothing\n", site.name, reader.name).as_str();
            }
            self.disagreements += disagreements.len();
            // Other readers may have shown the same two requests.
            let new = disagreements.iter().filter(|found| shown.insert(found.pair()));
            for disagreement in new.take(EXAMPLES) {
                self.text += format!("{}: {disagreement}\n", site.name).as_str();
            }
        }
        for (fault, observed) in oracle.faults() {
            self.faults += observed.len();
            let count = observed.len();
            let example = shortest(observed).map(Observed::shown).unwrap_or_default();
            self.text +=
                format!("{}: {fault} ({count} times)\n    {example}\n", site.name).as_str();
        }
    }

    /// Prints the sums.
    ///
    /// # Panics
    /// If there is a finding.
    pub(super) fn finish(self, seed: u64) {
        let Self { sent, disagreements, faults, text } = self;
        println!("{sent} requests sent, {disagreements} disagreements, {faults} other faults");
        assert!(
            disagreements == 0 && faults == 0,
            "{disagreements} disagreements and {faults} other faults with \
             PORTCULLIS_TEST_SEED={seed}; for example\n{text}"
        );
    }
}

/// The outcomes of requests.
#[derive(Debug, Default)]
struct Counts {
    sent: usize,
    allowed: usize,
    need_token: usize,
    /// Those that need a token, and were refused with one too.
    unread: usize,
    answered: usize,
    refused: BTreeMap<String, usize>,
}

// === impl Counts ===

impl Counts {
    fn of(observed: &[Observed]) -> Self {
        let mut counts = Self { sent: observed.len(), ..Self::default() };
        for observed in observed {
            match &observed.outcome {
                Outcome::Allowed(_) => counts.allowed += 1,
                Outcome::NeedsToken(arrival) => {
                    counts.need_token += 1;
                    counts.unread += usize::from(arrival.is_none());
                }
                Outcome::Answered(_) => counts.answered += 1,
                Outcome::Refused(answer) => {
                    let cause = answer.as_ref().map_or_else(
                        || "closed".to_owned(),
                        |answer| format!("{} {}", answer.status, answer.body.escape_ascii()),
                    );
                    *counts.refused.entry(cause).or_default() += 1;
                }
            }
        }
        counts
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let refused: usize = self.refused.values().sum();
        write!(
            f,
            "{} sent, {} reached the upstream, {} need a token ({} of them refused with one), {} \
             answered, {refused} refused {:?}",
            self.sent, self.allowed, self.need_token, self.unread, self.answered, self.refused
        )
    }
}

// === impl Disagreement ===

impl Disagreement<'_> {
    fn pair(&self) -> (RawRequest, RawRequest) {
        (self.allowed.request.clone(), self.denied.request.clone())
    }
}

impl std::fmt::Display for Disagreement<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reader, reading, allowed, denied } = self;
        let path: String = reading.path.chars().take(120).collect();
        write!(
            f,
            "{reader} reads {} {:?} on {:?}\n    passes       {}\n    needs token  {}",
            reading.method,
            path,
            reading.host,
            allowed.shown(),
            denied.shown()
        )
    }
}

// === impl Observed ===

impl Observed {
    /// The request, its outcome, and what arrived.
    pub(super) fn shown(&self) -> String {
        let arrived = |arrival: &Arrival| {
            let target = arrival.target.escape_ascii().to_string();
            let target: String = target.chars().take(120).collect();
            let host = arrival.value(b"host").unwrap_or_default();
            format!(
                "`{} {target}` host `{}` at {}",
                arrival.method.escape_ascii(),
                host.escape_ascii(),
                arrival.server
            )
        };
        let became = match &self.outcome {
            Outcome::Allowed(arrival) | Outcome::NeedsToken(Some(arrival)) => arrived(arrival),
            Outcome::NeedsToken(None) => "nothing".to_owned(),
            Outcome::Refused(_) => "a refusal".to_owned(),
            Outcome::Answered(status) => format!("an answer with {status}"),
        };
        format!("{} through {}: {became}", self.request.shown(), self.proxy)
    }
}
