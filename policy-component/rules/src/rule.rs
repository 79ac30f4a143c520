//! Owns the list of rules: the first one whose conditions hold decides.

use alloc::{format, vec::Vec};

use portcullis_policy::{Decision, Manifest, Request, SettingsError};
use serde_json::Value as Json;

use crate::{
    condition::Conditions,
    effect::{self, Effect},
    field::Field,
    inputs::Inputs,
};

/// The rules of a route, compiled.
#[derive(Debug)]
pub(crate) struct RuleList(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    conditions: Conditions,
    effect: Effect,
}

impl RuleList {
    /// Reads `{rules: [..]}`.
    pub(crate) fn read(settings: &Json) -> Result<(Self, Manifest), SettingsError> {
        let root = Field::root(settings);
        if settings.is_null() {
            return Err(root.refuse("the route has no settings; write `settings: {rules: [..]}`"));
        }
        let object = root.object(&["rules"])?;
        let mut inputs = Inputs::default();
        let mut rules: Vec<Rule> = Vec::new();
        for field in object.require("rules", "a list of rules")?.items()? {
            if rules.last().is_some_and(|rule| rule.conditions.is_empty()) {
                let before = rules.len() - 1;
                return Err(field.refuse(format!(
                    "is never reached, since rules[{before}] has no `match` and so decides on \
                     every request; give that one a `match`, or move it to the end"
                )));
            }
            rules.push(Rule::read(&field, &mut inputs)?);
        }
        Ok((Self(rules), inputs.into_manifest()))
    }

    /// What becomes of the request.
    pub(crate) fn decide(&self, request: &Request) -> Decision {
        self.0
            .iter()
            .find(|rule| rule.conditions.hold(request, None))
            .map_or_else(effect::end_of_list, |rule| rule.effect.decide(request))
    }
}

impl Rule {
    fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let object = field.object(&["name", "match", "effect"])?;
        let name = object.get("name");
        let name = name.as_ref().map(effect::read_word).transpose()?;
        let conditions = match object.get("match") {
            None => Conditions::default(),
            Some(field) => Conditions::read(&field, &[], inputs)?,
        };
        let effect = object.require("effect", "`allow` or `deny`")?;
        Ok(Self { conditions, effect: Effect::read(&effect, name, inputs)? })
    }
}
