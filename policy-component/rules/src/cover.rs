//! Rule coverage: finds rules that are never reached, since an earlier rule matches whatever they
//! match.
//!
//! It decides only where that is certain and simple: the earlier rule has the same `match`, or one
//! of nothing but methods, hosts and paths, each at least as wide. Such rules stand in a tree of
//! hosts and path segments, so that a long list is read in a time that grows with its length alone.
//! The rules were read before, so their text is known to be well-formed.

use alloc::{borrow::Cow, collections::BTreeMap, vec, vec::Vec};

use serde_json::Value as Json;

use crate::path::PathOptions;

/// A rule with more pairs of a host and a path than this is not looked for.
const MAX_PAIRS: usize = 64;

/// The rules so far.
#[derive(Debug)]
pub(crate) struct Coverage<'a> {
    options: PathOptions,
    rules: Vec<RuleScope<'a>>,
    /// By the hash of a host, or of none, and of segments from the first one on: the simple rules of
    /// which this is all. By the hash of a `match`: the first rule that has it.
    nodes: BTreeMap<u64, Vec<usize>>,
}

/// What a rule asks of the request line. An empty list is no condition.
#[derive(Debug, Default)]
struct RuleScope<'a> {
    conditions: Option<&'a Json>,
    methods: Vec<&'a str>,
    hosts: Vec<Cow<'a, str>>,
    paths: Vec<Vec<ScopeSegment<'a>>>,
}

/// A segment of a path template.
#[derive(Debug, PartialEq, Eq)]
enum ScopeSegment<'a> {
    /// Text, with or without `*` in it.
    Text(Cow<'a, str>),
    /// Any one segment.
    One,
    /// Any number of segments.
    Any,
}

// === impl Coverage ===

impl<'a> Coverage<'a> {
    /// No rules yet.
    pub(crate) const fn new(options: PathOptions) -> Self {
        Self { options, rules: Vec::new(), nodes: BTreeMap::new() }
    }

    /// Adds the next rule, unless an earlier one covers it: then says which.
    pub(crate) fn add(&mut self, rule: &'a Json) -> Option<usize> {
        let index = self.rules.len();
        let conditions = rule.get("match");
        let rule = RuleScope::new(conditions, self.options);
        if let Some(before) = self.find_same(&rule, index).or_else(|| self.find(&rule)) {
            return Some(before);
        }
        if rule.is_simple() {
            self.insert(&rule, index);
            self.rules.push(rule);
        } else {
            self.rules.push(RuleScope { conditions, ..RuleScope::default() });
        }
        None
    }

    fn find_same(&mut self, rule: &RuleScope<'a>, index: usize) -> Option<usize> {
        let indices = self.nodes.entry(Hash::NONE.json(rule.conditions?).0).or_default();
        let same = indices.iter().find(|before| {
            self.rules.get(**before).is_some_and(|before| before.conditions == rule.conditions)
        });
        let same = same.copied();
        indices.push(index);
        same
    }

    /// A rule that covers all of this one covers its first host and its first path.
    fn find(&self, rule: &RuleScope<'a>) -> Option<usize> {
        let path = rule.paths.first();
        let start = path.map_or(&[][..], Vec::as_slice);
        let mut nodes: Vec<(Hash, &[ScopeSegment<'a>])> = vec![(Hash::host("", ""), start)];
        if let Some(host) = rule.hosts.first() {
            nodes.extend([(Hash::host("", host), start), (Hash::host("*", ""), start)]);
            let dots = host.match_indices('.');
            nodes.extend(dots.map(|(dot, _)| (Hash::host("*", &host[dot..]), start)));
        }
        while let Some((node, rest)) = nodes.pop() {
            let Some(indices) = self.nodes.get(&node.0) else { continue };
            let covers = |index: &&usize| {
                self.rules.get(**index).is_some_and(|earlier| earlier.covers(rule))
            };
            if let Some(before) = indices.iter().find(covers) {
                return Some(*before);
            }
            if path.is_none() {
                continue;
            }
            nodes.push((node.segment(&ScopeSegment::Any), &[]));
            let Some((first, rest)) = rest.split_first() else { continue };
            if first.is_one() {
                nodes.push((node.segment(&ScopeSegment::One), rest));
            }
            if *first != ScopeSegment::One {
                nodes.push((node.segment(first), rest));
            }
        }
        None
    }

    fn insert(&mut self, rule: &RuleScope<'a>, index: usize) {
        if rule.hosts.len().max(1) * rule.paths.len().max(1) > MAX_PAIRS {
            return;
        }
        let (no_host, no_path) = ([Cow::Borrowed("")], [Vec::new()]);
        let hosts = if rule.hosts.is_empty() { &no_host[..] } else { &rule.hosts };
        let paths = if rule.paths.is_empty() { &no_path[..] } else { &rule.paths };
        for host in hosts {
            for path in paths {
                let mut node = Hash::host("", host);
                self.nodes.entry(node.0).or_default();
                for segment in path {
                    node = node.segment(segment);
                    self.nodes.entry(node.0).or_default();
                }
                self.nodes.entry(node.0).or_default().push(index);
            }
        }
    }
}

// === impl RuleScope ===

impl<'a> RuleScope<'a> {
    fn new(conditions: Option<&'a Json>, options: PathOptions) -> Self {
        let texts = |key: &str| -> Vec<&'a str> {
            let list = conditions.and_then(|conditions| conditions.get(key));
            list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect()
        };
        let mut paths = texts("path_templates");
        paths.extend(texts("paths"));
        Self {
            conditions,
            methods: texts("methods"),
            hosts: texts("hosts").into_iter().map(lower).collect(),
            paths: paths.into_iter().map(|path| segments(path, options)).collect(),
        }
    }

    /// Whether nothing but methods, hosts and paths matters.
    fn is_simple(&self) -> bool {
        let known = ["methods", "hosts", "path_templates", "paths"];
        let keys = self.conditions.and_then(Json::as_object);
        keys.is_some_and(|keys| keys.keys().all(|key| known.contains(&&**key)))
    }

    /// Whether this rule, a simple one, matches whatever `other` matches.
    fn covers(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || !other.methods.is_empty()
                && other.methods.iter().all(|method| self.methods.contains(method));
        let hosts = self.hosts.is_empty()
            || !other.hosts.is_empty()
                && other.hosts.iter().all(|host| self.hosts.iter().any(|own| is_wider(own, host)));
        let paths = self.paths.is_empty()
            || !other.paths.is_empty()
                && other.paths.iter().all(|path| self.paths.iter().any(|own| covers(own, path)));
        methods && hosts && paths
    }
}

/// Whether the host pattern `own` matches whatever `host` matches.
fn is_wider(own: &str, host: &str) -> bool {
    own == "*" || own == host || own.strip_prefix('*').is_some_and(|end| host.ends_with(end))
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

// === impl ScopeSegment ===

fn segments(path: &str, options: PathOptions) -> Vec<ScopeSegment<'_>> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    if rest.is_empty() && !options.distinct_slash {
        return Vec::new();
    }
    let segment = |text| match text {
        "**" => ScopeSegment::Any,
        "*" => ScopeSegment::One,
        text if text.starts_with('{') => ScopeSegment::One,
        text if options.ignore_case => ScopeSegment::Text(lower(text)),
        text => ScopeSegment::Text(Cow::Borrowed(text)),
    };
    rest.split('/').map(segment).collect()
}

/// Whether the host pattern `own` is known to match whatever `host` matches.
pub(crate) fn covers_host(own: &str, host: &str) -> bool {
    is_wider(&lower(own), &lower(host))
}

/// Whether some host matches both patterns.
pub(crate) fn hosts_overlap(one: &str, other: &str) -> bool {
    covers_host(one, other) || covers_host(other, one)
}

/// Whether some path may match both patterns.
pub(crate) fn paths_overlap(one: &str, other: &str, options: PathOptions) -> bool {
    let (one, other) = (segments(one, options), segments(other, options));
    let has_several = |path: &[ScopeSegment<'_>]| {
        path.iter().filter(|segment| **segment == ScopeSegment::Any).count() > 1
    };
    // With several `**` it would take long to decide.
    has_several(&one) || has_several(&other) || overlap(&one, &other)
}

fn overlap(one: &[ScopeSegment<'_>], other: &[ScopeSegment<'_>]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([ScopeSegment::Any, rest @ ..], _) => {
            overlap(rest, other)
                || other.split_first().is_some_and(|(_, other)| overlap(one, other))
        }
        (_, [ScopeSegment::Any, ..]) => overlap(other, one),
        ([first, one @ ..], [second, other @ ..]) => first.may_be(second) && overlap(one, other),
        _ => false,
    }
}

/// Whether the path pattern `own` is known to match whatever `path` matches.
pub(crate) fn covers_path(own: &str, path: &str, options: PathOptions) -> bool {
    covers(&segments(own, options), &segments(path, options))
}

fn covers(own: &[ScopeSegment<'_>], path: &[ScopeSegment<'_>]) -> bool {
    match (own, path) {
        ([ScopeSegment::Any], _) | ([], []) => true,
        ([first, own @ ..], [other, path @ ..]) => {
            (first == other || *first == ScopeSegment::One && other.is_one()) && covers(own, path)
        }
        _ => false,
    }
}

impl ScopeSegment<'_> {
    /// Whether a segment may be both. Neither stands for several.
    fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => {
                one == other || one.contains('*') || other.contains('*')
            }
            (Self::Text(text), _) | (_, Self::Text(text)) => !text.is_empty(),
            _ => true,
        }
    }

    /// Whether it stands for exactly one segment, which is not the empty one at the end.
    fn is_one(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::One => true,
            Self::Any => false,
        }
    }
}

/// FNV-1a. What is found by it is compared, so that two texts of one hash do no harm.
#[derive(Debug, Clone, Copy)]
struct Hash(u64);

impl Hash {
    const NONE: Self = Self(0xcbf2_9ce4_8422_2325);

    fn host(start: &str, end: &str) -> Self {
        Self::NONE.bytes(&[0]).bytes(start.as_bytes()).bytes(end.as_bytes())
    }

    fn segment(self, segment: &ScopeSegment<'_>) -> Self {
        match segment {
            ScopeSegment::Text(text) => self.bytes(&[1]).bytes(text.as_bytes()),
            ScopeSegment::One => self.bytes(&[2]),
            ScopeSegment::Any => self.bytes(&[3]),
        }
    }

    fn json(self, value: &Json) -> Self {
        let inner = match value {
            Json::Array(items) => items.iter().fold(self.bytes(&[4]), Self::json),
            Json::Object(entries) => entries.iter().fold(self.bytes(&[5]), |hash, (key, value)| {
                hash.bytes(key.as_bytes()).json(value)
            }),
            Json::String(text) => self.bytes(&[6]).bytes(text.as_bytes()),
            Json::Bool(boolean) => self.bytes(&[7, u8::from(*boolean)]),
            Json::Number(number) => self.bytes(&number.as_i64().unwrap_or_default().to_le_bytes()),
            Json::Null => self.bytes(&[8]),
        };
        inner.bytes(&[9])
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }
}
