//! Rule list: the first rule whose conditions hold decides.

use alloc::{boxed::Box, format, vec::Vec};

use portcullis_policy::{Decision, Manifest, Request, SettingsError};
use serde_json::Value as Json;

use crate::{
    condition::Conditions,
    conflict,
    cover::Coverage,
    effect::{self, Effect},
    field::Field,
    inputs::Inputs,
    path::PathOptions,
};

/// The rules of a route, compiled.
#[derive(Debug)]
pub(crate) struct RuleList {
    rules: Vec<Rule>,
    /// The request headers that any of them sets, each once.
    names: Vec<Box<str>>,
}

#[derive(Debug)]
struct Rule {
    conditions: Conditions,
    effect: Effect,
}

impl RuleList {
    /// Reads `{paths: {..}, rules: [..]}`.
    pub(crate) fn read(settings: &Json) -> Result<(Self, Manifest), SettingsError> {
        let root = Field::root(settings);
        if settings.is_null() {
            return Err(root.refuse("the route has no settings; write `settings: {rules: [..]}`"));
        }
        let object = root.object(&["paths", "rules"])?;
        let paths = match object.get("paths") {
            None => PathOptions::default(),
            Some(field) => PathOptions::read(&field)?,
        };
        let mut inputs = Inputs::new(paths);
        let mut coverage = Coverage::new(paths);
        let mut rules: Vec<Rule> = Vec::new();
        let field = object.require("rules", "a list of rules")?;
        for field in field.items()? {
            if rules.last().is_some_and(|rule| rule.conditions.is_empty()) {
                let before = rules.len() - 1;
                return Err(field.refuse(format!(
                    "is never reached, since rules[{before}] has no `match` and so decides on \
                     every request; give that one a `match`, or move it to the end"
                )));
            }
            rules.push(Rule::read(&field, &mut inputs)?);
            if let Some(before) = coverage.add(field.value()) {
                return Err(field.refuse(format!(
                    "is never reached, since rules[{before}] matches whatever it matches; move \
                     this one before it, or remove it"
                )));
            }
        }
        let names = read_names(&rules, &field)?;
        Ok((Self { rules, names }, inputs.into_manifest()))
    }

    /// What becomes of the request.
    pub(crate) fn decide(&self, request: &Request) -> Decision {
        self.rules
            .iter()
            .find(|rule| rule.conditions.hold(request, None))
            .map_or_else(effect::end_of_list, |rule| rule.effect.decide(request, &self.names))
    }
}

/// The names of the headers that any rule sets.
fn read_names(rules: &[Rule], field: &Field<'_>) -> Result<Vec<Box<str>>, SettingsError> {
    let most = rules.iter().map(|rule| rule.effect.removes()).max().unwrap_or_default();
    let mut names: Vec<Box<str>> = Vec::new();
    for name in rules.iter().flat_map(|rule| rule.effect.sets()) {
        // No more are kept than it takes to see that there are too many.
        if names.len() <= effect::MAX_HEADERS && names.iter().all(|known| **known != *name) {
            names.push(name.into());
        }
    }
    if names.len() + most > effect::MAX_HEADERS {
        return Err(field.refuse(format!(
            "set and remove more than {} different request headers together; use fewer",
            effect::MAX_HEADERS
        )));
    }
    Ok(names)
}

impl Rule {
    fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let object = field.object(&["name", "match", "effect"])?;
        let name = object.get("name");
        let name = name.as_ref().map(effect::read_word).transpose()?;
        let conditions = match object.get("match") {
            None => Conditions::default(),
            Some(field) => {
                let conditions = Conditions::read(&field, None, inputs)?;
                conflict::check(&field, inputs.paths)?;
                conditions
            }
        };
        let effect = object.require("effect", "`allow` or `deny`")?;
        Ok(Self { conditions, effect: Effect::read(&effect, name, inputs)? })
    }
}
