//! Contradictions: blocks of conditions that can never hold, and lists of which a part never counts.
//!
//! The conditions were read before, so their text is known to be well-formed.

use alloc::{format, vec::Vec};

use portcullis_policy::SettingsError;
use serde_json::Value as Json;

use crate::{
    cover::covers_path,
    field::{Field, Object},
    path::PathOptions,
};

/// What the blocks around a block demand already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demands<'a> {
    /// Whether there must be an identity, or must be none.
    identity: Option<bool>,
    /// The list of methods.
    methods: Option<&'a Json>,
}

impl<'a> Demands<'a> {
    /// Checks one block; returns what it and those around it demand.
    pub(crate) fn of(
        self,
        object: &Object<'a>,
        options: PathOptions,
    ) -> Result<Self, SettingsError> {
        let identity = self.identity(object)?;
        let methods = self.methods(object)?;
        check_tests(object, "claims", "claim", &["equals", "one_of"])?;
        check_tests(object, "headers", "name", &["equals", "one_of"])?;
        check_not_paths(object, options)?;
        Ok(Self { identity, methods })
    }

    fn identity(self, object: &Object<'a>) -> Result<Option<bool>, SettingsError> {
        let mut demanded = self.identity;
        for key in ["identity", "scopes", "path_segment", "claim_prefixes_path", "claims"] {
            let Some(field) = object.get(key) else { continue };
            let needs = match (key, field.value()) {
                ("identity", value) => value.as_str() == Some("required"),
                ("claims", Json::Array(claims)) if claims.iter().all(is_absence) => continue,
                _ => true,
            };
            if demanded.is_some_and(|demanded| demanded != needs) {
                return Err(field.refuse(
                    "can never hold, since a request cannot both have a verified token (`identity: \
                     required`, `scopes`, `claims`, ..) and have none (`identity: absent`); remove \
                     one of the two",
                ));
            }
            demanded = Some(needs);
        }
        Ok(demanded)
    }

    fn methods(self, object: &Object<'a>) -> Result<Option<&'a Json>, SettingsError> {
        let Some(field) = object.get("methods") else { return Ok(self.methods) };
        let outer = self.methods.and_then(Json::as_array);
        let own = field.value().as_array();
        if let (Some(outer), Some(own)) = (outer, own)
            && !own.iter().any(|method| outer.contains(method))
        {
            return Err(field.refuse(
                "can never hold, since the block around it has other methods; remove one of the \
                 two lists",
            ));
        }
        Ok(Some(field.value()))
    }
}

/// `{claim: .., present: false}`
fn is_absence(test: &Json) -> bool {
    test.get("present") == Some(&Json::Bool(false))
}

/// All tests of a list must hold. Refuses two of the same claim or header of which each excludes the
/// other.
fn check_tests(
    object: &Object<'_>,
    key: &'static str,
    subject: &str,
    lists: &[&str],
) -> Result<(), SettingsError> {
    let Some(field) = object.get(key) else { return Ok(()) };
    let values = |test: &'_ Json| -> Option<Vec<Json>> {
        let value = lists.iter().find_map(|list| test.get(list))?;
        Some(value.as_array().cloned().unwrap_or_else(|| alloc::vec![value.clone()]))
    };
    let excludes = |one: &Json, other: &Json| {
        if is_absence(one) != is_absence(other) {
            return true;
        }
        match (values(one), values(other)) {
            (Some(one), Some(other)) => !one.iter().any(|value| other.contains(value)),
            _ => false,
        }
    };
    let mut before: Vec<Field<'_>> = Vec::new();
    for item in field.items()? {
        let is_same = |earlier: &&Field<'_>| {
            let (one, other) = (earlier.value().get(subject), item.value().get(subject));
            let is_same_text = one.and_then(Json::as_str).zip(other.and_then(Json::as_str));
            is_same_text.map_or(one == other, |(one, other)| {
                if key == "headers" { one.eq_ignore_ascii_case(other) } else { one == other }
            })
        };
        if before.iter().filter(is_same).any(|earlier| excludes(earlier.value(), item.value())) {
            return Err(item.refuse(format!(
                "can never hold together with another test of the same {}; write alternatives as \
                 `one_of`, or as blocks below `any`",
                if key == "headers" { "header" } else { "claim" }
            )));
        }
        before.push(item);
    }
    Ok(())
}

/// Refuses what `not_paths` leaves nothing of.
fn check_not_paths(object: &Object<'_>, options: PathOptions) -> Result<(), SettingsError> {
    let Some(not) = object.get("not_paths") else { return Ok(()) };
    let not_paths = not.value().as_array().into_iter().flatten().filter_map(Json::as_str);
    let takes = |path: &str| not_paths.clone().any(|not| covers_path(not, path, options));
    if takes("/**") {
        return Err(not.refuse("can never hold, since `/**` matches every path; remove it"));
    }
    let paths = object.get("path_templates").or_else(|| object.get("paths"));
    let Some(paths) = paths else { return Ok(()) };
    for item in paths.items()? {
        if item.value().as_str().is_some_and(takes) {
            return Err(item.refuse("never counts, since `not_paths` takes all of it away"));
        }
    }
    Ok(())
}
