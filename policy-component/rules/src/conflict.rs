//! Contradictions: blocks of conditions that can never hold, and lists of which a part never counts.
//!
//! What must hold together is collected: a block, those around it, and those below its `all`. Two of
//! these that exclude each other are refused, and so is a `not` whose block follows from the others.
//! Only what is simple to decide is searched for; `docs/rules.md` lists it.
//!
//! The conditions were read before, so their text is known to be well-formed.

mod exclude;
mod imply;

use alloc::{vec, vec::Vec};

use portcullis_policy::SettingsError;
use serde_json::Value as Json;

use crate::{field::Field, path::PathOptions};

/// No more blocks than this are compared with each other, so that the time to read settings grows with
/// their length alone.
const MAX_BLOCKS: usize = 64;

/// What must hold together.
#[derive(Debug, Clone, Default)]
struct Facts<'a> {
    /// Blocks whose own conditions must hold, the outer ones first.
    hold: Vec<&'a Json>,
    /// Blocks that must not hold.
    fail: Vec<&'a Json>,
}

/// Refuses a block that can never hold, and what is in it and can never hold.
pub(crate) fn check(field: &Field<'_>, options: PathOptions) -> Result<(), SettingsError> {
    let mut facts = Facts::default();
    facts.add(field.value());
    check_block(field, &facts, options)
}

/// Checks a block that is among the facts.
fn check_block(
    field: &Field<'_>,
    facts: &Facts<'_>,
    options: PathOptions,
) -> Result<(), SettingsError> {
    let object = field.map()?;
    exclude::check(&object, facts.before(field.value()), options)?;
    if let Some(not) = object.get("not") {
        if imply::holds(not.value(), facts, options) || imply::leaves_no_method(not.value(), facts)
        {
            return Err(not.refuse(
                "can never hold, since the conditions around it make its block hold always; remove \
                 one of the two",
            ));
        }
        match not.map()?.get("not") {
            // What must not fail to hold must hold.
            Some(inner) if sole(not.value()).is_some() => check_block(&inner, facts, options)?,
            _ => check(&not, options)?,
        }
    }
    for key in ["any", "all"] {
        let Some(list) = object.get(key) else { continue };
        for item in list.items()? {
            if is_part(key, list.value()) {
                check_block(&item, facts, options)?;
            } else {
                let mut facts = facts.clone();
                facts.add(item.value());
                check_block(&item, &facts, options)?;
            }
        }
    }
    Ok(())
}

/// Whether the blocks of this list must hold whenever the block around them does.
fn is_part(key: &str, list: &Json) -> bool {
    key == "all" || elements(list).len() == 1
}

// === impl Facts ===

impl<'a> Facts<'a> {
    /// Adds a block and what must hold with it.
    fn add(&mut self, block: &'a Json) {
        if self.hold.len() >= MAX_BLOCKS {
            return;
        }
        self.hold.push(block);
        for key in ["any", "all"] {
            if let Some(list) = block.get(key).filter(|list| is_part(key, list)) {
                for item in elements(list) {
                    self.add(item);
                }
            }
        }
        let Some(not) = block.get("not") else { return };
        match sole(not) {
            Some(("not", inner)) => self.add(inner),
            Some(("any", list)) => self.fail.extend(elements(list)),
            _ => self.fail.push(not),
        }
    }

    /// The blocks before this one.
    fn before(&self, block: &Json) -> &[&'a Json] {
        let place = self.hold.iter().position(|other| core::ptr::eq(*other, block));
        self.hold.get(..place.unwrap_or(self.hold.len())).unwrap_or_default()
    }

    /// Whether there must be an identity, or must be none.
    fn identity(&self) -> Option<bool> {
        let demanded = self.hold.iter().find_map(|block| exclude::identity(block));
        demanded.or_else(|| {
            self.fail.iter().find_map(|block| match sole(block) {
                Some(("identity", value)) => Some(value.as_str() != Some("required")),
                _ => None,
            })
        })
    }

    /// The methods that are left, if not all are.
    fn methods(&self) -> Option<Vec<&'a str>> {
        let mut lists = self.hold.iter().filter_map(|block| block.get("methods"));
        let mut left = strings(lists.next()?);
        for list in lists {
            let list = strings(list);
            left.retain(|method| list.contains(method));
        }
        Some(left)
    }
}

/// The only key of a block and its value.
fn sole(block: &Json) -> Option<(&str, &Json)> {
    let mut entries = block.as_object()?.iter();
    match (entries.next(), entries.next()) {
        (Some((key, value)), None) => Some((key.as_str(), value)),
        _ => None,
    }
}

fn elements(list: &Json) -> &[Json] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn strings(list: &Json) -> Vec<&str> {
    elements(list).iter().filter_map(Json::as_str).collect()
}

/// The path templates of a block, under either name.
fn paths(block: &Json) -> Option<&Json> {
    block.get("path_templates").or_else(|| block.get("paths"))
}

/// The tests below `claims` or `headers`.
fn tests<'a>(block: &'a Json, key: &str) -> &'a [Json] {
    block.get(key).map_or(&[], elements)
}

/// `{claim: .., present: false}`
fn is_absence(test: &Json) -> bool {
    test.get("present") == Some(&Json::Bool(false))
}

/// Whether two tests are about the same claim or header.
fn is_same_subject(one: &Json, other: &Json) -> bool {
    let name = |test: &Json| test.get("name").and_then(Json::as_str).map(str::to_ascii_lowercase);
    match (name(one), name(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.get("claim").is_some() && one.get("claim") == other.get("claim"),
    }
}

/// The values of which a test wants one, if it wants such.
fn values(test: &Json) -> Option<Vec<&Json>> {
    match (test.get("equals"), test.get("one_of")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(list)) => Some(elements(list).iter().collect()),
        (None, None) => None,
    }
}

/// The text with which a header must begin, if a test wants that.
fn prefix(test: &Json) -> Option<&str> {
    test.get("prefix").and_then(Json::as_str)
}

/// Whether all values are strings that begin with `prefix`.
fn all_begin_with(values: &[&Json], prefix: &str) -> bool {
    values.iter().all(|value| value.as_str().is_some_and(|value| value.starts_with(prefix)))
}
