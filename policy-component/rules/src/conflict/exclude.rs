//! Conditions that exclude each other: within one block, and with the blocks that must hold with it.

use alloc::format;

use portcullis_policy::SettingsError;
use serde_json::Value as Json;

use super::{elements, is_absence, is_same_subject, paths, prefix, strings, tests, values};
use crate::{
    cover::{covers_path, hosts_overlap, paths_overlap},
    field::Object,
    path::PathOptions,
};

/// The keys by which a block demands something of the identity.
const OF_IDENTITY: [&str; 5] =
    ["identity", "scopes", "path_segment", "claim_prefixes_path", "claims"];

/// Checks a block by itself, and together with `others`.
pub(super) fn check(
    object: &Object<'_>,
    others: &[&Json],
    options: PathOptions,
) -> Result<(), SettingsError> {
    check_identity(object, others)?;
    check_methods(object, others)?;
    check_lists(object, others, options)?;
    for key in ["claims", "headers"] {
        check_tests(object, key, others)?;
    }
    check_absent_claims(object, others)?;
    check_context(object, others)?;
    check_not_paths(object, others, options)
}

/// Whether a block needs an identity, or the absence of one.
pub(super) fn identity(block: &Json) -> Option<bool> {
    OF_IDENTITY.iter().find_map(|key| demand(key, block.get(key)?))
}

fn demand(key: &str, value: &Json) -> Option<bool> {
    match key {
        "identity" => Some(value.as_str() == Some("required")),
        "claims" if elements(value).iter().all(is_absence) => None,
        _ => Some(true),
    }
}

fn check_identity(object: &Object<'_>, others: &[&Json]) -> Result<(), SettingsError> {
    let mut demanded = others.iter().find_map(|block| identity(block));
    for key in OF_IDENTITY {
        let Some(field) = object.get(key) else { continue };
        let Some(needs) = demand(key, field.value()) else { continue };
        if demanded.is_some_and(|demanded| demanded != needs) {
            return Err(field.refuse(
                "can never hold, since a request cannot both have a verified token (`identity: \
                 required`, `scopes`, `claims`, ..) and have none (`identity: absent`); remove \
                 one of the two",
            ));
        }
        demanded = Some(needs);
    }
    Ok(())
}

fn check_methods(object: &Object<'_>, others: &[&Json]) -> Result<(), SettingsError> {
    let Some(field) = object.get("methods") else { return Ok(()) };
    let mut left = strings(field.value());
    for list in others.iter().filter_map(|block| block.get("methods")) {
        let list = strings(list);
        left.retain(|method| list.contains(method));
    }
    if left.is_empty() {
        return Err(field.refuse(
            "can never hold, since the block around it, or beside it below `all`, has other \
             methods; remove one of the two lists",
        ));
    }
    Ok(())
}

/// Hosts, paths and principals: of each list one pattern must match.
fn check_lists(
    object: &Object<'_>,
    others: &[&Json],
    options: PathOptions,
) -> Result<(), SettingsError> {
    let paths_overlap = |one: &str, other: &str| paths_overlap(one, other, options);
    let is_same = |one: &str, other: &str| one == other || one.contains('*') || other.contains('*');
    for (key, other_key) in [
        ("hosts", "hosts"),
        ("path_templates", "paths"),
        ("paths", "path_templates"),
        ("source_principals", "source_principals"),
    ] {
        let Some(field) = object.get(key) else { continue };
        let may_overlap = |one: &str, other: &str| match key {
            "hosts" => hosts_overlap(one, other),
            "source_principals" => is_same(one, other),
            _ => paths_overlap(one, other),
        };
        let own = strings(field.value());
        let excludes = |block: &&Json| {
            let list = block.get(key).or_else(|| block.get(other_key));
            list.is_some_and(|list| {
                let list = strings(list);
                !own.iter().any(|one| list.iter().any(|other| may_overlap(one, other)))
            })
        };
        if others.iter().any(excludes) {
            return Err(field.refuse(
                "can never hold, since the block around it, or beside it below `all`, has none of \
                 these; remove one of the two lists",
            ));
        }
    }
    Ok(())
}

/// All tests of a list must hold, and those of the other blocks. Refuses two of the same claim or
/// header of which each excludes the other.
fn check_tests(
    object: &Object<'_>,
    key: &'static str,
    others: &[&Json],
) -> Result<(), SettingsError> {
    let Some(field) = object.get(key) else { return Ok(()) };
    let own = elements(field.value());
    for (index, item) in field.items()?.enumerate() {
        let test = item.value();
        let before = own.get(..index).unwrap_or_default();
        let mut before = before.iter().chain(others.iter().flat_map(|block| tests(block, key)));
        if before.any(|earlier| is_same_subject(earlier, test) && exclude(earlier, test)) {
            return Err(item.refuse(format!(
                "can never hold together with another test of the same {}; write alternatives as \
                 `one_of`, or as blocks below `any`",
                if key == "headers" { "header" } else { "claim" }
            )));
        }
    }
    Ok(())
}

/// Whether no value passes both tests.
fn exclude(one: &Json, other: &Json) -> bool {
    if is_absence(one) != is_absence(other) {
        return true;
    }
    let none_begins = |values: &[&Json], prefix: &str| {
        !values.iter().any(|value| value.as_str().is_some_and(|value| value.starts_with(prefix)))
    };
    match ((values(one), prefix(one)), (values(other), prefix(other))) {
        ((Some(one), _), (Some(other), _)) => !one.iter().any(|value| other.contains(value)),
        ((Some(values), _), (_, Some(prefix))) | ((_, Some(prefix)), (Some(values), _)) => {
            none_begins(&values, prefix)
        }
        ((_, Some(one)), (_, Some(other))) => !one.starts_with(other) && !other.starts_with(one),
        _ => false,
    }
}

/// Refuses a claim that must be absent, and with which the path is compared.
fn check_absent_claims(object: &Object<'_>, others: &[&Json]) -> Result<(), SettingsError> {
    let is_compared = |claim: &Json| {
        let mut own = compared_claims(|key| object.get(key).map(|field| field.value()));
        let mut of_others = others.iter().flat_map(|block| compared_claims(|key| block.get(key)));
        own.any(|other| other == claim) || of_others.any(|other| other == claim)
    };
    if let Some(own) = object.get("claims") {
        for item in own.items()? {
            if is_absence(item.value()) && item.value().get("claim").is_some_and(is_compared) {
                return Err(item.refuse(
                    "can never hold, since the path is compared with this claim; remove one of \
                     the two",
                ));
            }
        }
    }
    check_compared_claims(object, others)
}

/// The same where the comparison comes later.
fn check_compared_claims(object: &Object<'_>, others: &[&Json]) -> Result<(), SettingsError> {
    for key in ["path_segment", "claim_prefixes_path"] {
        let Some(field) = object.get(key) else { continue };
        let mut claims = compared_claims(|other| (other == key).then(|| field.value()));
        let is_absent = |claim: &Json| {
            let mut absent = others.iter().flat_map(|block| tests(block, "claims"));
            absent.any(|test| is_absence(test) && test.get("claim") == Some(claim))
        };
        if claims.any(is_absent) {
            return Err(field.refuse(
                "can never hold, since the claim must be absent (`present: false`); remove one of \
                 the two",
            ));
        }
    }
    Ok(())
}

/// The claims with which the path is compared.
fn compared_claims<'a>(
    get: impl Fn(&'static str) -> Option<&'a Json>,
) -> impl Iterator<Item = &'a Json> {
    let names = [
        ("path_segment", "equals_claim"),
        ("path_segment", "in_claim"),
        ("claim_prefixes_path", "claim"),
    ];
    names.into_iter().filter_map(move |(key, claim)| get(key)?.get(claim))
}

fn check_context(object: &Object<'_>, others: &[&Json]) -> Result<(), SettingsError> {
    let Some(field) = object.get("context") else { return Ok(()) };
    for (key, value) in field.map()?.entries() {
        let is_other = |block: &&Json| {
            block
                .get("context")
                .and_then(|context| context.get(key))
                .is_some_and(|other| other != value.value())
        };
        if others.iter().any(is_other) {
            return Err(value.refuse(
                "can never hold, since the block around it, or beside it below `all`, has another \
                 value; remove one of the two",
            ));
        }
    }
    Ok(())
}

/// Refuses what `not_paths` leaves nothing of, in whichever block the paths stand.
fn check_not_paths(
    object: &Object<'_>,
    others: &[&Json],
    options: PathOptions,
) -> Result<(), SettingsError> {
    let takes = |list: &Json, path: &str| {
        strings(list).into_iter().any(|not| covers_path(not, path, options))
    };
    let own = object.get("path_templates").or_else(|| object.get("paths"));
    if let Some(not) = object.get("not_paths") {
        if takes(not.value(), "/**") {
            return Err(not.refuse("can never hold, since `/**` matches every path; remove it"));
        }
        if let Some(own) = &own {
            for item in own.items()? {
                if item.value().as_str().is_some_and(|path| takes(not.value(), path)) {
                    return Err(item.refuse("never counts, since `not_paths` takes all of it away"));
                }
            }
        }
        let is_taken = |block: &&Json| {
            paths(block)
                .is_some_and(|paths| strings(paths).iter().all(|path| takes(not.value(), path)))
        };
        if others.iter().any(is_taken) {
            return Err(not.refuse(
                "can never hold, since it takes all paths away that the block around it, or beside \
                 it below `all`, has",
            ));
        }
    }
    let Some(own) = own else { return Ok(()) };
    let takes_own = |block: &&Json| {
        block
            .get("not_paths")
            .is_some_and(|not| strings(own.value()).iter().all(|path| takes(not, path)))
    };
    if others.iter().any(takes_own) {
        return Err(own.refuse(
            "can never hold, since `not_paths` of the block around it, or beside it below `all`, \
             takes all of it away",
        ));
    }
    Ok(())
}
