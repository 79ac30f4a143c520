//! Environment variables that set keys of the configuration.

use serde_json::{Map, Value};

use super::{
    ConfigError, env,
    typed::TypedError,
    yaml::{YamlError, read as read_yaml},
};

/// A variable, and the key that it sets.
pub(super) struct Variable<'a> {
    pub(super) name: &'a str,
    text: &'a str,
    keys: Vec<String>,
    /// Why its value is taken as it is.
    pub(super) malformed: Option<YamlError>,
}

impl<'a> Variable<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        let keys = name.strip_prefix(env::PREFIX).unwrap_or(name).to_lowercase();
        let keys = keys.split("__").map(str::to_owned).collect();
        Self { name, text, keys, malformed: None }
    }

    /// Sets the key. A value that is not YAML is text.
    pub(super) fn overlay(mut self, document: &mut Value) -> Result<Self, ConfigError> {
        let value = read_yaml(self.text).unwrap_or_else(|error| {
            self.malformed = Some(error);
            Value::String(self.text.to_owned())
        });
        let mut place = document;
        for key in &self.keys {
            place = match place {
                Value::Null => {
                    *place = Value::Object(Map::new());
                    entry(place, key)
                }
                Value::Object(_) => entry(place, key),
                Value::Array(items) => {
                    key.parse().ok().and_then(|index: usize| items.get_mut(index))
                }
                _ => None,
            }
            .ok_or_else(|| ConfigError::Variable {
                variable: self.name.to_owned(),
                message: format!("there is no key `{}`", self.keys.join(".")),
            })?;
        }
        *place = value;
        Ok(self)
    }

    /// Whether this is about the key, or about one above or below it: a variable may name a key whose
    /// parent is already unknown.
    fn is_about(&self, keys: &[String]) -> bool {
        self.keys.starts_with(keys) || keys.starts_with(&self.keys)
    }
}

/// The variable that has set a key, if one has.
pub(super) fn find<'a>(variables: &'a [Variable<'_>], keys: &[String]) -> Option<&'a Variable<'a>> {
    variables.iter().find(|variable| !keys.is_empty() && variable.is_about(keys))
}

/// In a file, text that looks like a number or a boolean has to stand in quotes. A variable
/// has no such rule, so its value is taken as text where text is needed.
pub(super) fn take_as_text(
    document: &mut Value,
    variables: &[Variable<'_>],
    error: &TypedError,
) -> bool {
    let keys = error.keys();
    let variable = variables.iter().find(|variable| error.needs_text() && variable.keys == keys);
    let Some(variable) = variable else { return false };
    let pointer: String = keys.iter().flat_map(|key| ["/", key.as_str()]).collect();
    match document.pointer_mut(&pointer) {
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Null)) => {
            *value = Value::String(variable.text.to_owned());
            true
        }
        _ => false,
    }
}

fn entry<'a>(place: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    Some(place.as_object_mut()?.entry(key.to_owned()).or_insert(Value::Null))
}
