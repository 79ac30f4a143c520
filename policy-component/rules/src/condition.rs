//! Owns `match`: a block of conditions, all of which must hold.
//!
//! Blocks nest under `any`, `all` and `not`. Evaluating one allocates nothing and fails in no way:
//! what a request does not have does not match.

use alloc::{boxed::Box, format, vec::Vec};

use portcullis_policy::{Identity, Parts, Request, SettingsError};

use crate::{
    claim::{ClaimCondition, ClaimRef},
    claim_prefix::ClaimPrefix,
    field::{Field, Object},
    glob::Glob,
    header::{self, HeaderCondition},
    inputs::Inputs,
    path::PathPattern,
};

const KEYS: &[&str] = &[
    "methods",
    "hosts",
    "paths",
    "not_paths",
    "identity",
    "scopes",
    "claims",
    "path_segment",
    "claim_prefixes_path",
    "source_principals",
    "headers",
    "context",
    "any",
    "all",
    "not",
];

/// Conditions that must all hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    /// Empty where the path does not matter.
    paths: Vec<PathPattern>,
    /// The cheap ones come first.
    others: Vec<Condition>,
}

#[derive(Debug)]
enum Condition {
    Methods(Vec<Box<str>>),
    Hosts(Vec<Glob>),
    NotPaths(Vec<PathPattern>),
    Identified(bool),
    Scopes(Vec<Box<str>>),
    Header(HeaderCondition),
    Context(Vec<(Box<str>, Box<str>)>),
    Principals(Vec<Glob>),
    Claim(ClaimCondition),
    Segment(SegmentCondition),
    ClaimPrefix(ClaimPrefix),
    Any(Vec<Conditions>),
    All(Vec<Conditions>),
    Not(Conditions),
}

/// A named segment of the path must agree with a claim.
#[derive(Debug)]
struct SegmentCondition {
    name: Box<str>,
    claim: ClaimRef,
    /// Whether the claim lists what is permitted, rather than being it.
    among: bool,
}

// === impl Conditions ===

impl Conditions {
    /// Reads a block. `outer` are the paths of the block around it, which name segments for this
    /// one unless it has paths of its own.
    pub(crate) fn read(
        field: &Field<'_>,
        outer: &[PathPattern],
        inputs: &mut Inputs,
    ) -> Result<Self, SettingsError> {
        let object = field.object(KEYS)?;
        let paths = match object.get("paths") {
            None => Vec::new(),
            Some(field) => field.list(PathPattern::read)?,
        };
        let named = if paths.is_empty() { outer } else { &paths };
        let mut others = Vec::new();
        read_request(&object, &mut others, inputs)?;
        read_caller(&object, named, &mut others, inputs)?;
        read_nested(&object, named, &mut others, inputs)?;
        Ok(Self { paths, others })
    }

    /// Whether they all hold for the request. `outer` is the pattern that the block around this one
    /// matched.
    pub(crate) fn hold(&self, request: &Request, outer: Option<&PathPattern>) -> bool {
        let matched = if self.paths.is_empty() {
            outer
        } else {
            match self.paths.iter().find(|pattern| pattern.matches(&request.path)) {
                None => return false,
                matched => matched,
            }
        };
        self.others.iter().all(|condition| condition.holds(request, matched))
    }

    /// Whether they hold for each and every request.
    pub(crate) const fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.others.is_empty()
    }
}

/// The conditions on the request itself.
fn read_request(
    object: &Object<'_>,
    others: &mut Vec<Condition>,
    inputs: &mut Inputs,
) -> Result<(), SettingsError> {
    if let Some(field) = object.get("methods") {
        others.push(Condition::Methods(field.list(read_method)?));
    }
    if let Some(field) = object.get("hosts") {
        others.push(Condition::Hosts(field.list(read_host)?));
    }
    if let Some(field) = object.get("not_paths") {
        others.push(Condition::NotPaths(field.list(PathPattern::read)?));
    }
    if let Some(field) = object.get("headers") {
        for item in field.items()? {
            others.push(Condition::Header(HeaderCondition::read(&item, inputs)?));
        }
    }
    if let Some(field) = object.get("context") {
        let entries: Result<_, _> = field
            .map()?
            .entries()
            .map(|(key, value)| Ok((key.into(), value.text()?.into())))
            .collect();
        inputs.part(Parts::CONTEXT);
        others.push(Condition::Context(entries?));
    }
    Ok(())
}

/// The conditions on who calls.
fn read_caller(
    object: &Object<'_>,
    named: &[PathPattern],
    others: &mut Vec<Condition>,
    inputs: &mut Inputs,
) -> Result<(), SettingsError> {
    if let Some(field) = object.get("identity") {
        others.push(Condition::Identified(match field.text()? {
            "required" => true,
            "absent" => false,
            _ => return Err(field.refuse("must be `required` or `absent`")),
        }));
    }
    if let Some(field) = object.get("scopes") {
        others.push(Condition::Scopes(field.list(read_scope)?));
    }
    if let Some(field) = object.get("source_principals") {
        inputs.part(Parts::SOURCE);
        others.push(Condition::Principals(field.list(read_principal)?));
    }
    if let Some(field) = object.get("claims") {
        for item in field.items()? {
            others.push(Condition::Claim(ClaimCondition::read(&item, inputs)?));
        }
    }
    if let Some(field) = object.get("path_segment") {
        others.push(Condition::Segment(SegmentCondition::read(&field, named, inputs)?));
    }
    if let Some(field) = object.get("claim_prefixes_path") {
        others.push(Condition::ClaimPrefix(ClaimPrefix::read(&field, inputs)?));
    }
    Ok(())
}

/// The blocks inside this one.
fn read_nested(
    object: &Object<'_>,
    named: &[PathPattern],
    others: &mut Vec<Condition>,
    inputs: &mut Inputs,
) -> Result<(), SettingsError> {
    if let Some(field) = object.get("any") {
        let blocks = field.list(|item| Conditions::read(item, named, inputs))?;
        others.push(Condition::Any(blocks));
    }
    if let Some(field) = object.get("all") {
        let blocks = field.list(|item| Conditions::read(item, named, inputs))?;
        others.push(Condition::All(blocks));
    }
    if let Some(field) = object.get("not") {
        others.push(Condition::Not(Conditions::read(&field, named, inputs)?));
    }
    Ok(())
}

fn read_method(field: &Field<'_>) -> Result<Box<str>, SettingsError> {
    let method = field.text()?;
    if !header::is_token(method) {
        return Err(field.refuse("is not an HTTP method; write for example `GET`"));
    }
    let upper = method.to_ascii_uppercase();
    if upper != method {
        return Err(field.refuse(format!("methods are in upper case; write `{upper}`")));
    }
    Ok(method.into())
}

fn read_host(field: &Field<'_>) -> Result<Glob, SettingsError> {
    let host = field.text()?;
    let name = if host == "*" { "" } else { host.strip_prefix("*.").unwrap_or(host) };
    if name.contains('*') {
        return Err(field.refuse("`*` stands alone or for whole labels in front: `*.example.com`"));
    }
    if name.contains('/') || (name.contains(':') && !name.starts_with('[')) {
        return Err(field.refuse("must be a host name without scheme, port or path"));
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(field.refuse(format!("must be in lower case: `{}`", host.to_ascii_lowercase())));
    }
    Ok(Glob::new(host))
}

fn read_scope(field: &Field<'_>) -> Result<Box<str>, SettingsError> {
    let scope = field.text()?;
    if scope.contains(' ') {
        return Err(field.refuse("is one scope; write several as several elements of the list"));
    }
    Ok(scope.into())
}

fn read_principal(field: &Field<'_>) -> Result<Glob, SettingsError> {
    let principal = field.text()?;
    let inner = principal.strip_prefix('*').unwrap_or(principal);
    if inner.strip_suffix('*').unwrap_or(inner).contains('*') {
        return Err(field.refuse("`*` stands at the beginning or at the end: `*/sa/frontend`"));
    }
    Ok(Glob::new(principal))
}

// === impl Condition ===

impl Condition {
    fn holds(&self, request: &Request, matched: Option<&PathPattern>) -> bool {
        let identity = request.identity.as_ref();
        match self {
            Self::Methods(methods) => methods.iter().any(|method| **method == *request.method),
            Self::Hosts(hosts) => hosts.iter().any(|host| host.matches(&request.host)),
            // A raw connection has no path, which is not the same as another path.
            Self::NotPaths(paths) => {
                !request.path.is_empty() && !paths.iter().any(|path| path.matches(&request.path))
            }
            Self::Identified(expected) => identity.is_some() == *expected,
            Self::Scopes(scopes) => has_scopes(identity, scopes),
            Self::Header(header) => header.holds(request),
            Self::Context(entries) => {
                entries.iter().all(|(key, value)| request.context(key) == Some(value))
            }
            Self::Principals(principals) => request.source.as_ref().is_some_and(|peer| {
                principals.iter().any(|principal| principal.matches(&peer.principal))
            }),
            Self::Claim(claim) => claim.holds(identity),
            Self::Segment(segment) => segment.holds(request, matched),
            Self::ClaimPrefix(prefix) => prefix.holds(request),
            Self::Any(blocks) => blocks.iter().any(|block| block.hold(request, matched)),
            Self::All(blocks) => blocks.iter().all(|block| block.hold(request, matched)),
            Self::Not(block) => !block.hold(request, matched),
        }
    }
}

fn has_scopes(identity: Option<&Identity>, scopes: &[Box<str>]) -> bool {
    identity.is_some_and(|identity| scopes.iter().all(|scope| identity.has_scope(scope)))
}

// === impl SegmentCondition ===

impl SegmentCondition {
    fn read(
        field: &Field<'_>,
        named: &[PathPattern],
        inputs: &mut Inputs,
    ) -> Result<Self, SettingsError> {
        let object = field.object(&["name", "equals_claim", "in_claim"])?;
        let name_field = object.require("name", "the name of a segment, such as `user_id`")?;
        let name = name_field.text()?;
        if named.is_empty() || !named.iter().all(|pattern| pattern.has(name)) {
            return Err(name_field.refuse(format!(
                "is not a segment of every pattern in `paths`; write `{{{name}}}` in each"
            )));
        }
        let (key, field) = object.only(&["equals_claim", "in_claim"])?;
        let claim = ClaimRef::read(&field, inputs)?;
        Ok(Self { name: name.into(), claim, among: key == "in_claim" })
    }

    fn holds(&self, request: &Request, matched: Option<&PathPattern>) -> bool {
        let segment = matched.and_then(|pattern| pattern.segment(&self.name, &request.path));
        let claim = self.claim.find(request.identity.as_ref());
        let (Some(segment), Some(claim)) = (segment, claim) else { return false };
        if self.among { claim.contains_text(segment) } else { claim.is_written(segment) }
    }
}
