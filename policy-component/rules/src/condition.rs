//! Conditions: `match`, a block of conditions all of which must hold.
//!
//! Blocks nest under `any`, `all` and `not`. Evaluating one allocates nothing and fails in no way:
//! what a request does not have does not match.

use alloc::{boxed::Box, vec::Vec};

use portcullis_policy::{Identity, Parts, Request, SettingsError};

use crate::{
    claim::ClaimCondition,
    claim_prefix::ClaimPrefix,
    field::{Field, Object},
    glob::Glob,
    header::HeaderCondition,
    host,
    inputs::Inputs,
    method,
    path::{PathTemplate, PathTemplates},
    path_segment::SegmentCondition,
};

const KEYS: &[&str] = &[
    "methods",
    "hosts",
    "path_templates",
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
    /// None where the path does not matter.
    paths: Option<PathTemplates>,
    /// The cheap ones come first.
    others: Vec<Condition>,
}

#[derive(Debug)]
enum Condition {
    Methods(Vec<Box<str>>),
    Hosts(Vec<Glob>),
    NotPaths(PathTemplates),
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

// === impl Conditions ===

impl Conditions {
    /// Reads a block. `named` are the paths that name segments for a block that has no paths
    /// itself.
    pub(crate) fn read(
        field: &Field<'_>,
        named: Option<&PathTemplates>,
        inputs: &mut Inputs,
    ) -> Result<Self, SettingsError> {
        let object = field.object(KEYS)?;
        let options = inputs.paths;
        let paths = match read_paths(&object)? {
            None => None,
            Some(field) => Some(PathTemplates::read(&field, options)?),
        };
        let named = paths.as_ref().or(named);
        let mut others = Vec::new();
        read_request(&object, &mut others, inputs)?;
        read_caller(&object, named, &mut others, inputs)?;
        read_nested(&object, named, &mut others, inputs)?;
        Ok(Self { paths, others })
    }

    /// Whether they all hold for the request. `outer` is the template that the block around this one
    /// matched.
    pub(crate) fn hold(&self, request: &Request, outer: Option<&PathTemplate>) -> bool {
        let matched = match &self.paths {
            None => outer,
            Some(paths) => match paths.find(&request.path) {
                None => return false,
                matched => matched,
            },
        };
        self.others.iter().all(|condition| condition.holds(request, matched))
    }

    /// Whether they hold for each and every request.
    pub(crate) const fn is_empty(&self) -> bool {
        self.paths.is_none() && self.others.is_empty()
    }
}

/// The path templates, under either of their names.
fn read_paths<'a>(object: &Object<'a>) -> Result<Option<Field<'a>>, SettingsError> {
    let (templates, paths) = (object.get("path_templates"), object.get("paths"));
    match (templates, paths) {
        (Some(_), Some(paths)) => {
            Err(paths.refuse("is another name of `path_templates`; write one list"))
        }
        (templates, paths) => Ok(templates.or(paths)),
    }
}

/// The conditions on the request itself.
fn read_request(
    object: &Object<'_>,
    others: &mut Vec<Condition>,
    inputs: &mut Inputs,
) -> Result<(), SettingsError> {
    if let Some(field) = object.get("methods") {
        others.push(Condition::Methods(field.list(method::read)?));
    }
    if let Some(field) = object.get("hosts") {
        others.push(Condition::Hosts(field.list(host::read)?));
    }
    if let Some(field) = object.get("not_paths") {
        others.push(Condition::NotPaths(PathTemplates::read(&field, inputs.paths)?));
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
    named: Option<&PathTemplates>,
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
    named: Option<&PathTemplates>,
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

fn read_scope(field: &Field<'_>) -> Result<Box<str>, SettingsError> {
    let scope = field.text()?;
    if scope.contains(char::is_whitespace) {
        return Err(field.refuse("is one scope; write several as several elements of the list"));
    }
    Ok(scope.into())
}

fn read_principal(field: &Field<'_>) -> Result<Glob, SettingsError> {
    let principal = field.text()?;
    if principal.trim() != principal {
        return Err(field.refuse("begins or ends with a blank, which no principal has; remove it"));
    }
    let inner = principal.strip_prefix('*').unwrap_or(principal);
    if inner.strip_suffix('*').unwrap_or(inner).contains('*') {
        return Err(field.refuse("`*` stands at the beginning or at the end: `*/sa/frontend`"));
    }
    Ok(Glob::new(principal))
}

// === impl Condition ===

impl Condition {
    fn holds(&self, request: &Request, matched: Option<&PathTemplate>) -> bool {
        let identity = request.identity.as_ref();
        match self {
            Self::Methods(methods) => methods.iter().any(|method| **method == *request.method),
            Self::Hosts(hosts) => hosts.iter().any(|host| host.matches(&request.host)),
            // A raw connection has no path, which is not the same as another path.
            Self::NotPaths(paths) => {
                !request.path.is_empty() && paths.find(&request.path).is_none()
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
