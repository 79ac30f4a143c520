//! Route matching: the compiled `match` of a route, without what can never apply.

use super::{
    authority::{self, HostsConfig},
    config::MatchConfig,
    method::wrong_in_settings,
    path::{self, PathConfig, Tolerance},
    pattern::Pattern,
    route_error::RouteCause,
};

/// Which requests belong to a route. An empty list of patterns matches everything, but for `not_paths`.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    pub(super) hosts: Vec<Pattern>,
    pub(super) paths: Vec<Pattern>,
    pub(super) not_paths: Vec<Pattern>,
    pub(super) methods: Vec<String>,
    pub(super) tcp: bool,
    pub(super) only_by_name: bool,
    /// How the route reads paths, if it tolerates more than others.
    pub(super) tolerant: Option<PathConfig>,
}

/// How the hosts and paths are read that patterns are compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadingRules<'a> {
    pub(super) hosts: HostsConfig,
    pub(super) paths: &'a PathConfig,
}

// === impl Matcher ===

impl Matcher {
    /// Compiles `config`.
    ///
    /// # Errors
    /// The first thing in it that can never apply.
    pub(super) fn new(config: &MatchConfig, reading: ReadingRules<'_>) -> Result<Self, RouteCause> {
        let MatchConfig { hosts, paths, not_paths, tolerate, methods, tcp, only_by_name } = config;
        let tolerant = tolerant(tolerate, reading.paths)?;
        let reading = ReadingRules { paths: tolerant.as_ref().unwrap_or(reading.paths), ..reading };
        let host =
            |pattern: &Pattern| authority::compile(pattern, reading.hosts).map(|host| vec![host]);
        let path = |pattern: &Pattern| path::compile(pattern, reading.paths);
        for method in methods {
            if let Some(wrong) = wrong_in_settings(method) {
                return Err(RouteCause::Method(method.clone(), wrong));
            }
        }
        let compiled_paths = compile("paths", paths, path)?;
        let compiled_not_paths = compile("not_paths", not_paths, path)?;
        for (pattern, compiled) in paths.iter().zip(&compiled_paths) {
            if let Some(excluded) = excluded_by(compiled, not_paths, &compiled_not_paths) {
                return Err(RouteCause::Excluded(pattern.clone(), excluded.clone()));
            }
        }
        let everything = [Pattern::Present];
        if paths.is_empty()
            && let Some(excluded) = excluded_by(&everything, not_paths, &compiled_not_paths)
        {
            return Err(RouteCause::Excluded(Pattern::Present, excluded.clone()));
        }
        let paths = or_everything(&compiled_paths);
        if tolerant.is_some() && !paths.is_empty() && !paths.iter().any(is_prefix) {
            return Err(RouteCause::NoPrefix);
        }
        Ok(Self {
            hosts: or_everything(&compile("hosts", hosts, host)?),
            paths,
            not_paths: compiled_not_paths.concat(),
            methods: methods.clone(),
            tcp: *tcp,
            only_by_name: *only_by_name,
            tolerant,
        })
    }

    /// Whether a request belongs to the route. Without a method, whatever methods it asks for.
    pub(super) fn matches(&self, host: &str, path: &str, method: Option<&str>) -> bool {
        self.matches_host(host) && self.matches_but_for_host(path, method)
    }

    pub(super) fn matches_host(&self, host: &str) -> bool {
        !self.tcp && (self.hosts.is_empty() || any(&self.hosts, host))
    }

    pub(super) fn matches_but_for_host(&self, path: &str, method: Option<&str>) -> bool {
        !self.tcp
            && (self.paths.is_empty() || any(&self.paths, path))
            && !any(&self.not_paths, path)
            && self.matches_method(method)
    }

    pub(super) fn matches_method(&self, method: Option<&str>) -> bool {
        self.methods.is_empty()
            || method.is_none_or(|method| self.methods.iter().any(|m| m == method))
    }
}

fn is_prefix(pattern: &Pattern) -> bool {
    matches!(pattern, Pattern::Prefix(_))
}

fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

/// How a route reads paths that tolerates `more` than all routes do.
fn tolerant(more: &[Tolerance], all: &PathConfig) -> Result<Option<PathConfig>, RouteCause> {
    if more.is_empty() {
        return Ok(None);
    }
    for tolerance in more {
        if !tolerance.is_for_routes() {
            return Err(RouteCause::Tolerance(tolerance.name()));
        }
    }
    let tolerate = [all.tolerate.as_slice(), more].concat();
    Ok(Some(PathConfig { tolerate, ..all.clone() }))
}

/// Each pattern of the configuration as one or several.
fn compile(
    key: &'static str,
    patterns: &[Pattern],
    compile: impl Fn(&Pattern) -> Result<Vec<Pattern>, std::borrow::Cow<'static, str>>,
) -> Result<Vec<Vec<Pattern>>, RouteCause> {
    let compiled = patterns.iter().map(|pattern| {
        compile(pattern).map_err(|fault| RouteCause::Unmatchable {
            key,
            pattern: pattern.clone(),
            fault: fault.into_owned(),
        })
    });
    compiled.collect()
}

/// All patterns in one list, which is empty if one of them matches everything.
fn or_everything(patterns: &[Vec<Pattern>]) -> Vec<Pattern> {
    let patterns = patterns.concat();
    if patterns.contains(&Pattern::Present) { Vec::new() } else { patterns }
}

/// The pattern of `not_paths` that excludes all that `compiled` matches.
fn excluded_by<'a>(
    compiled: &[Pattern],
    not_paths: &'a [Pattern],
    compiled_not_paths: &[Vec<Pattern>],
) -> Option<&'a Pattern> {
    let mut excluded = not_paths.iter().zip(compiled_not_paths);
    let covers = |by: &[Pattern]| compiled.iter().all(|one| by.iter().any(|by| by.includes(one)));
    excluded.find(|(_, by)| covers(by)).map(|(pattern, _)| pattern)
}
