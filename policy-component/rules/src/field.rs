//! Settings fields: a value, and where it stands, so that every error names its place.
//!
//! The place is a chain of borrowed steps and becomes text only in an error. Nothing in here knows
//! what a rule is.

use alloc::{format, string::String, vec::Vec};

use portcullis_policy::SettingsError;
use serde_json::{Map, Value};

/// A value in the settings and the way to it.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    step: Step<'a>,
    parent: Option<&'a Field<'a>>,
}

/// An object in the settings, all of whose keys are known.
pub(crate) struct Object<'a> {
    field: &'a Field<'a>,
    entries: &'a Map<String, Value>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

// === impl Field ===

impl<'a> Field<'a> {
    /// The settings as a whole.
    pub(crate) const fn root(value: &'a Value) -> Self {
        Self { value, step: Step::Root, parent: None }
    }

    /// The value, for callers that accept several types.
    pub(crate) const fn value(&self) -> &'a Value {
        self.value
    }

    /// Refuses this value. `message` says what is wrong and what to write instead.
    pub(crate) fn refuse(&self, message: impl Into<String>) -> SettingsError {
        SettingsError::invalid(self.path(), message)
    }

    /// An object that has no other keys than `known`.
    pub(crate) fn object(&'a self, known: &[&str]) -> Result<Object<'a>, SettingsError> {
        let object = self.map()?;
        if let Some(key) = object.entries.keys().find(|key| !known.contains(&key.as_str())) {
            let known = known.join("`, `");
            let message = format!("is not a known key; the keys here are `{known}`");
            return Err(object.child(key, self.value).refuse(message));
        }
        Ok(object)
    }

    /// An object whose keys the operator chooses. An empty one is refused: it looks as if it did
    /// something.
    pub(crate) fn map(&'a self) -> Result<Object<'a>, SettingsError> {
        match self.value {
            Value::Object(entries) if entries.is_empty() => {
                Err(self.refuse("is empty; leave the key out or write something below it"))
            }
            Value::Object(entries) => Ok(Object { field: self, entries }),
            _ => Err(self.refuse("must be a mapping of keys to values")),
        }
    }

    /// The elements of a list that is not empty.
    pub(crate) fn items(&'a self) -> Result<impl Iterator<Item = Field<'a>>, SettingsError> {
        let Value::Array(items) = self.value else {
            return Err(self.refuse("must be a list; write it in brackets: [..]"));
        };
        if items.is_empty() {
            return Err(self.refuse("is an empty list; leave the key out or name at least one"));
        }
        Ok(items.iter().enumerate().map(|(index, value)| Field {
            value,
            step: Step::Index(index),
            parent: Some(self),
        }))
    }

    /// Reads every element of a list that is not empty.
    pub(crate) fn list<T>(
        &'a self,
        mut read: impl FnMut(&Field<'_>) -> Result<T, SettingsError>,
    ) -> Result<Vec<T>, SettingsError> {
        self.items()?.map(|item| read(&item)).collect()
    }

    /// A string that is not empty.
    pub(crate) fn text(&self) -> Result<&'a str, SettingsError> {
        match self.value {
            Value::String(text) if text.is_empty() => {
                Err(self.refuse("is empty; leave the key out or write a value"))
            }
            Value::String(text) => Ok(text),
            _ => Err(self.refuse("must be a string; put it in quotes")),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Result<bool, SettingsError> {
        self.value.as_bool().ok_or_else(|| self.refuse("must be `true` or `false`"))
    }

    fn path(&self) -> String {
        let mut path = self.parent.map(Field::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Step::Index(index) => path.extend(["[", &format!("{index}"), "]"]),
        }
        path
    }
}

// === impl Object ===

impl<'a> Object<'a> {
    /// The value under `key`, if the operator wrote one.
    pub(crate) fn get(&self, key: &'a str) -> Option<Field<'a>> {
        self.entries.get(key).map(|value| self.child(key, value))
    }

    /// The value under `key`; `fix` says what to write where it is missing.
    pub(crate) fn require(&self, key: &'a str, fix: &str) -> Result<Field<'a>, SettingsError> {
        self.get(key).ok_or_else(|| {
            self.child(key, self.field.value).refuse(format!("is missing; write {fix}"))
        })
    }

    /// The one entry of an object that must have exactly one of `keys`.
    pub(crate) fn only(&self, keys: &[&'a str]) -> Result<(&'a str, Field<'a>), SettingsError> {
        let mut found = keys.iter().filter_map(|key| self.get(key).map(|field| (*key, field)));
        if let (Some(one), None) = (found.next(), found.next()) {
            return Ok(one);
        }
        let keys = keys.join("`, `");
        Err(self.field.refuse(format!("needs exactly one of `{keys}`")))
    }

    /// All entries, in the order of their keys.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), self.child(key, value)))
    }

    const fn child(&self, key: &'a str, value: &'a Value) -> Field<'a> {
        Field { value, step: Step::Key(key), parent: Some(self.field) }
    }
}
