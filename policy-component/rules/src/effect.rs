//! Effects: what a rule does once it matches. It lets the request pass, or answers it.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

use portcullis_policy::{Allowed, Decision, Denied, Header, Request, SettingsError};
use serde_json::Value as Json;

use crate::{
    field::Field,
    header::{self, Message},
    inputs::Inputs,
    source::Source,
    status,
};

/// The body of a deny that does not say otherwise.
const BODY: &str = "access denied";
/// The reason of a deny by a rule that has neither a reason nor a name.
const REASON: &str = "denied-by-rule";
/// The reason of a deny because the list of rules ended.
const END_OF_LIST: &str = "no-rule-matches";

/// How many headers one decision may change; Portcullis refuses more.
pub(crate) const MAX_HEADERS: usize = 100;

/// What a rule does.
#[derive(Debug)]
pub(crate) enum Effect {
    Allow(AllowEffect),
    Deny(DenyEffect),
}

/// How to let a request pass.
#[derive(Debug, Default)]
pub(crate) struct AllowEffect {
    set: Vec<(Box<str>, Source)>,
    remove: Vec<Box<str>>,
    response: Vec<(Box<str>, Source)>,
}

/// How to answer a request.
#[derive(Debug)]
pub(crate) struct DenyEffect {
    status: u16,
    reason: Box<str>,
    body: Box<str>,
    headers: Vec<(Box<str>, Source)>,
}

// === impl Effect ===

impl Effect {
    /// Reads `allow`, `deny`, `{allow: {..}}` or `{deny: {..}}`. `name` is the rule's.
    pub(crate) fn read(
        field: &Field<'_>,
        name: Option<&str>,
        inputs: &mut Inputs,
    ) -> Result<Self, SettingsError> {
        match field.value() {
            Json::String(word) if word == "allow" => Ok(Self::Allow(AllowEffect::default())),
            Json::String(word) if word == "deny" => Ok(Self::Deny(DenyEffect::new(name))),
            Json::Object(_) => {
                let (kind, field) = field.object(&["allow", "deny"])?.only(&["allow", "deny"])?;
                if kind == "allow" {
                    AllowEffect::read(&field, inputs).map(Self::Allow)
                } else {
                    DenyEffect::read(&field, name, inputs).map(Self::Deny)
                }
            }
            _ => Err(field.refuse("must be `allow`, `deny`, `{allow: {..}}` or `{deny: {..}}`")),
        }
    }

    /// The names of the request headers that it sets.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &str> {
        let set = match self {
            Self::Allow(effect) => &*effect.set,
            Self::Deny(_) => &[],
        };
        set.iter().map(|(name, _)| &**name)
    }

    /// How many names of headers it removes.
    pub(crate) fn removes(&self) -> usize {
        match self {
            Self::Allow(effect) => effect.remove.len(),
            Self::Deny(_) => 0,
        }
    }

    /// What becomes of the request. `names` are those of the headers that any rule of the list sets.
    pub(crate) fn decide(&self, request: &Request, names: &[Box<str>]) -> Decision {
        match self {
            Self::Allow(effect) => effect.decide(request, names).into(),
            Self::Deny(effect) => effect.decide(request).into(),
        }
    }
}

/// The decision at the end of the list.
pub(crate) fn end_of_list() -> Decision {
    Denied::new(403, END_OF_LIST).body(BODY).into()
}

// === impl AllowEffect ===

impl AllowEffect {
    fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let keys = &["set_request_headers", "remove_request_headers", "response_headers"];
        let object = field.object(keys)?;
        let mut effect = Self::default();
        if let Some(field) = object.get("set_request_headers") {
            effect.set = read_headers(&field, Message::Request, inputs)?;
        }
        if let Some(field) = object.get("remove_request_headers") {
            effect.remove = field.list(|item| {
                let name = header::writable(item, item.text()?, Message::Request)?;
                if effect.set.iter().any(|(set, _)| header::is_same(set, &name)) {
                    return Err(item.refuse("is also set; remove one of the two"));
                }
                Ok(name.into())
            })?;
        }
        if let Some(field) = object.get("response_headers") {
            effect.response = read_headers(&field, Message::Response, inputs)?;
        }
        Ok(effect)
    }

    fn decide(&self, request: &Request, names: &[Box<str>]) -> Allowed {
        let mut allowed = Allowed::new();
        allowed.remove_request_headers = self.remove.iter().map(ToString::to_string).collect();
        for (name, source) in &self.set {
            match source.value(request) {
                Some(value) => allowed.set_request_headers.push(field(name, value)),
                // The client's own must not take the place of a value that is missing.
                None => allowed.remove_request_headers.push(name.to_string()),
            }
        }
        // The upstream takes these for what the rules say, whichever rule let the request pass.
        for name in names {
            let is_set = self.set.iter().any(|(set, _)| set == name);
            if !is_set && !self.remove.contains(name) {
                allowed.remove_request_headers.push(name.to_string());
            }
        }
        allowed.response_headers = headers(&self.response, request);
        allowed
    }
}

// === impl DenyEffect ===

impl DenyEffect {
    fn new(name: Option<&str>) -> Self {
        Self {
            status: 403,
            reason: name.unwrap_or(REASON).into(),
            body: BODY.into(),
            headers: Vec::new(),
        }
    }

    fn read(
        field: &Field<'_>,
        name: Option<&str>,
        inputs: &mut Inputs,
    ) -> Result<Self, SettingsError> {
        let object = field.object(&["status", "reason", "body", "headers"])?;
        let mut effect = Self::new(name);
        if let Some(field) = object.get("status") {
            effect.status = status::read(&field)?;
        }
        if !status::has_body(effect.status) {
            effect.body = Box::default();
        }
        if let Some(field) = object.get("reason") {
            effect.reason = read_word(&field)?.into();
        }
        if let Some(field) = object.get("body") {
            // An empty body is a body.
            let body = field.value().as_str().ok_or_else(|| field.refuse("must be a string"))?;
            if !body.is_empty() && !status::has_body(effect.status) {
                return Err(field.refuse(format!(
                    "cannot be sent, since an answer with status {} has no body; remove it",
                    effect.status
                )));
            }
            effect.body = body.into();
        }
        if let Some(field) = object.get("headers") {
            effect.headers = read_headers(&field, Message::Response, inputs)?;
        }
        Ok(effect)
    }

    fn decide(&self, request: &Request) -> Denied {
        let mut denied = Denied::new(self.status, &*self.reason).body(&*self.body);
        denied.headers = headers(&self.headers, request);
        denied
    }
}

/// Reads a word that stands in logs.
pub(crate) fn read_word<'a>(field: &Field<'a>) -> Result<&'a str, SettingsError> {
    let word = field.text()?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if word.len() > 64 || !word.bytes().all(good) {
        return Err(field.refuse(
            "must be at most 64 letters, digits, `-`, `_` and `.`, so that logs can be searched \
             for it",
        ));
    }
    Ok(word)
}

/// Reads a mapping of the names of headers in `message` to sources.
fn read_headers(
    field: &Field<'_>,
    message: Message,
    inputs: &mut Inputs,
) -> Result<Vec<(Box<str>, Source)>, SettingsError> {
    let mut headers: Vec<(Box<str>, Source)> = Vec::new();
    for (key, field) in field.map()?.entries() {
        let name = header::writable(&field, key, message)?;
        if headers.iter().any(|(known, _)| header::is_same(known, &name)) {
            return Err(field.refuse(format!(
                "`{name}` is set twice, since `_` and `-` are one to many servers; remove one"
            )));
        }
        headers.push((name.into(), Source::read(&field, inputs)?));
    }
    Ok(headers)
}

/// Those of the headers that have a value.
fn headers(sources: &[(Box<str>, Source)], request: &Request) -> Vec<Header> {
    sources.iter().filter_map(|(name, source)| Some(field(name, source.value(request)?))).collect()
}

fn field(name: &str, value: String) -> Header {
    Header { name: name.to_string(), value }
}
