//! Oracle: groups requests by how a reader reads them, finds those that were decided differently,
//! and requests that must not arrive at all.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_integration_tests::{
    token,
    wire::{RawRequest, Version},
};

use super::{
    generate::overridden_by,
    readers::{Reader, Reading},
    stage::{Observed, Outcome},
};

/// The header with the identity of the caller.
const IDENTITY: &str = "x-user-id";
/// Longer paths are not respelled: a plain one of that length gives no new information.
const LONGEST_SPELLING: usize = 1_000;

/// The outcomes of one site.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) readers: Vec<Reader>,
    pub(super) observed: Vec<Observed>,
}

/// Requests that a reader reads alike.
#[derive(Debug, Default)]
struct Group<'a> {
    allowed: Vec<&'a Observed>,
    denied: Vec<&'a Observed>,
}

/// Requests that one reader reads alike and Portcullis decides differently.
#[derive(Debug)]
pub(super) struct Disagreement<'a> {
    pub(super) reader: &'static str,
    pub(super) reading: Reading,
    /// The shortest of those that passed without a token.
    pub(super) allowed: &'a Observed,
    /// The shortest of those that need one.
    pub(super) denied: &'a Observed,
}

/// The coverage of one reader.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Comparisons {
    pub(super) readings: usize,
    pub(super) pairs: usize,
}

// === impl Oracle ===

impl Oracle {
    pub(super) fn new(readers: Vec<Reader>) -> Self {
        Self { readers, observed: Vec::new() }
    }

    pub(super) fn add(&mut self, observed: Vec<Observed>) {
        self.observed.extend(observed);
    }

    /// Each reading as a plain request, so that it is decided in that form too.
    pub(super) fn plain_spellings(&self) -> Vec<RawRequest> {
        let mut plain = BTreeSet::new();
        for reader in &self.readers {
            let groups = self.groups(reader);
            plain.extend(groups.keys().filter_map(|reading| plain_spelling(reader, reading)));
        }
        plain.into_iter().collect()
    }

    /// The number of compared requests for each reader.
    pub(super) fn comparisons(&self, reader: &Reader) -> Comparisons {
        let mut sum = Comparisons::default();
        for group in self.groups(reader).values() {
            let size = group.allowed.len() + group.denied.len();
            sum.readings += 1;
            sum.pairs += size * (size - 1) / 2;
        }
        sum
    }

    /// The groups of a reader that were decided in two ways.
    pub(super) fn disagreements(&self, reader: &Reader) -> Vec<Disagreement<'_>> {
        let groups = self.groups(reader).into_iter();
        let in_two_ways = groups
            .filter(|(_, group)| !group.allowed.is_empty() && !group.denied.is_empty())
            .filter_map(|(reading, Group { allowed, denied })| {
                let (allowed, denied) = (shortest(allowed)?, shortest(denied)?);
                Some(Disagreement { reader: reader.name, reading, allowed, denied })
            });
        in_two_ways.collect()
    }

    /// Requests that must not have arrived, or that Portcullis decides differently in the form in
    /// which they arrived; with the requests that show it.
    pub(super) fn faults(&self) -> BTreeMap<String, Vec<&Observed>> {
        let mut faults: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for observed in &self.observed {
            let (arrival, expected) = match &observed.outcome {
                Outcome::Allowed(arrival) => (arrival, 200),
                Outcome::NeedsToken(Some(arrival)) => (arrival, 401),
                _ => continue,
            };
            let user: &[&[u8]] = if expected == 200 { &[] } else { &[token::SUBJECT.as_bytes()] };
            let misled = |reader: &&Reader| reader.values(arrival, IDENTITY) != user;
            let misled = self.readers.iter().filter(misled);
            let mut found: Vec<_> = misled
                .map(|reader| format!("{} reads another user than Portcullis", reader.name))
                .collect();
            let overrides = arrival.headers.iter().filter_map(|(name, _)| overridden_by(name));
            found.extend(overrides.map(|name| format!("`{name}` arrived")));
            if let Some(status) = observed.decided_again.filter(|status| *status != expected) {
                found.push(format!("{expected} for what was sent, {status} for what arrived"));
            }
            for fault in found {
                faults.entry(fault).or_default().push(observed);
            }
        }
        faults
    }

    fn groups(&self, reader: &Reader) -> BTreeMap<Reading, Group<'_>> {
        let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
        for observed in &self.observed {
            let (arrival, allowed) = match &observed.outcome {
                Outcome::Allowed(arrival) => (arrival, true),
                Outcome::NeedsToken(Some(arrival)) => (arrival, false),
                _ => continue,
            };
            if let Some(reading) = reader.read(arrival) {
                let group = groups.entry(reading).or_default();
                if allowed { group.allowed.push(observed) } else { group.denied.push(observed) }
            }
        }
        groups
    }
}

/// The request that is easiest to read.
pub(super) fn shortest(requests: Vec<&Observed>) -> Option<&Observed> {
    requests.into_iter().min_by_key(|observed| observed.request.shown().len())
}

/// A request that means `reading` and nothing else; `None` where there is no such spelling.
fn plain_spelling(reader: &Reader, reading: &Reading) -> Option<RawRequest> {
    let Reading { method, host, path, .. } = reading;
    let target = if reader.decodes { encoded(path) } else { path.clone() };
    let authority = match host.as_str() {
        "" => return None,
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let is_plain =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let spells = is_plain(&target) && is_plain(&authority) && is_plain(method);
    (spells && target.len() <= LONGEST_SPELLING).then(|| {
        let mut request = RawRequest::get(Version::Http2, &authority, &target);
        request.method = method.as_bytes().to_vec();
        request
    })
}

/// A decoded path with escapes for all characters that are not plain.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += format!("%{byte:02X}").as_str();
        }
    }
    out
}
