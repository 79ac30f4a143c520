//! Conditions that follow from others: a `not` of such a block can never hold.

use serde_json::Value as Json;

use super::{
    Facts, all_begin_with, elements, is_absence, is_same_subject, paths, prefix, sole, strings,
    tests, values,
};
use crate::{
    cover::{covers_host, covers_path},
    path::PathOptions,
};

/// Whether a block is known to hold whenever all facts do.
pub(super) fn holds(block: &Json, facts: &Facts<'_>, options: PathOptions) -> bool {
    let Some(entries) = block.as_object() else { return false };
    // A segment of the path is named by templates. With several, names may stand for other segments.
    let is_one_template = paths(block).is_none()
        && facts.hold.iter().filter(|block| paths(block).is_some()).count() <= 1;
    entries.iter().all(|(key, value)| match key.as_str() {
        "identity" => facts.identity() == Some(value.as_str() == Some("required")),
        "methods" => {
            let methods = strings(value);
            facts.methods().is_some_and(|left| left.iter().all(|left| methods.contains(left)))
        }
        "hosts" => is_covered(facts, |block| block.get("hosts"), value, covers_host),
        "path_templates" | "paths" => {
            is_covered(facts, paths, value, |own, path| covers_path(own, path, options))
        }
        "not_paths" => {
            let mut not_paths = strings(value).into_iter();
            not_paths.all(|path| {
                some(facts, "not_paths", |own| {
                    strings(own).iter().any(|own| covers_path(own, path, options))
                })
            })
        }
        "scopes" => strings(value)
            .iter()
            .all(|scope| some(facts, "scopes", |own| strings(own).contains(scope))),
        "claims" | "headers" => elements(value).iter().all(|test| {
            let no_claims = key == "claims" && facts.identity() == Some(false);
            let mut known = facts.hold.iter().flat_map(|block| tests(block, key));
            (no_claims && is_absence(test)) || known.any(|known| implies(known, test))
        }),
        "context" => value.as_object().is_some_and(|entries| {
            entries
                .iter()
                .all(|(key, value)| some(facts, "context", |own| own.get(key) == Some(value)))
        }),
        "any" => {
            let blocks = elements(value);
            blocks.iter().any(|block| holds(block, facts, options))
                || some(facts, key, |own| elements(own).iter().all(|one| blocks.contains(one)))
        }
        "all" => elements(value).iter().all(|block| holds(block, facts, options)),
        "not" => facts.fail.contains(&value),
        "path_segment" => is_one_template && some(facts, key, |own| own == value),
        _ => some(facts, key, |own| own == value),
    })
}

/// Whether the blocks that must not hold leave none of the methods, this block being one of them.
pub(super) fn leaves_no_method(block: &Json, facts: &Facts<'_>) -> bool {
    let of = |block: &Json| match sole(block) {
        Some(("methods", list)) => elements(list).to_vec(),
        _ => alloc::vec::Vec::new(),
    };
    if of(block).is_empty() {
        return false;
    }
    let Some(mut left) = facts.methods() else { return false };
    for block in &facts.fail {
        let refused = of(block);
        left.retain(|method| !refused.iter().any(|refused| refused.as_str() == Some(method)));
    }
    left.is_empty()
}

/// Whether the key of some block has such a value.
fn some(facts: &Facts<'_>, key: &str, is_it: impl Fn(&Json) -> bool) -> bool {
    facts.hold.iter().filter_map(|block| block.get(key)).any(is_it)
}

/// Whether some block has a list of which `list` covers each pattern.
fn is_covered<'a>(
    facts: &Facts<'a>,
    get: impl Fn(&'a Json) -> Option<&'a Json>,
    list: &Json,
    covers: impl Fn(&str, &str) -> bool,
) -> bool {
    let wide = strings(list);
    facts.hold.iter().filter_map(|block| get(block)).any(|narrow| {
        strings(narrow).iter().all(|narrow| wide.iter().any(|wide| covers(wide, narrow)))
    })
}

/// Whether whatever passes the test `known` passes `test`.
fn implies(known: &Json, test: &Json) -> bool {
    if !is_same_subject(known, test) || is_absence(known) != is_absence(test) {
        return false;
    }
    if is_absence(test) || test.get("present").is_some() {
        return true;
    }
    match (values(known), prefix(known), values(test), prefix(test)) {
        (Some(known), _, Some(wanted), _) => known.iter().all(|value| wanted.contains(value)),
        (Some(known), _, _, Some(wanted)) => all_begin_with(&known, wanted),
        (_, Some(known), _, Some(wanted)) => known.starts_with(wanted),
        (Some(known), _, None, None) => {
            known.iter().all(|value| Some(*value) == test.get("contains"))
        }
        _ => known.get("contains").is_some() && known.get("contains") == test.get("contains"),
    }
}
