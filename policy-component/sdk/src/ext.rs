//! Constructors and look-ups that make the generated types pleasant to use.
//!
//! It never decides anything.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use crate::{
    Allowed, Decision, Denied, EvaluateError, Header, Identity, Manifest, MetadataEntry,
    MetadataPath, Parts, QueryParameter, Request, SettingsError, SettingsProblem, Value,
};

// === impl Manifest ===

impl Manifest {
    /// Reads nothing beyond what every policy gets.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: Vec::new(),
            claims: Vec::new(),
            metadata: Vec::new(),
            parts: Parts::empty(),
        }
    }

    /// Asks for a request header, to be read with [`Request::header`].
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>) -> Self {
        let mut name = name.into();
        name.make_ascii_lowercase();
        if !self.headers.contains(&name) {
            self.headers.push(name);
        }
        self
    }

    /// Asks for a claim: the path to it, one name per level. The first one asked for is
    /// `identity.claim(0)`, the next `identity.claim(1)`.
    #[must_use]
    pub fn with_claim<N: Into<String>>(mut self, path: impl IntoIterator<Item = N>) -> Self {
        self.claims.push(path.into_iter().map(Into::into).collect());
        self
    }

    /// Asks for Envoy filter metadata. The first one asked for is `request.metadata[0]`.
    #[must_use]
    pub fn with_metadata<N: Into<String>>(
        mut self,
        namespace: impl Into<String>,
        path: impl IntoIterator<Item = N>,
    ) -> Self {
        let path = path.into_iter().map(Into::into).collect();
        self.metadata.push(MetadataPath { namespace: namespace.into(), path });
        self
    }

    /// Asks for optional parts of the request.
    #[must_use]
    pub fn with_parts(mut self, parts: Parts) -> Self {
        self.parts = self.parts | parts;
        self
    }
}

impl Default for Manifest {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Request ===

impl Request {
    /// The value of a header that the manifest asked for; `name` in lower case. Several headers of the
    /// name are one value with commas, so compare the whole of it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }

    /// A value of Envoy's `context_extensions`, if the manifest asked for [`Parts::CONTEXT`].
    #[must_use]
    pub fn context(&self, key: &str) -> Option<&str> {
        self.context.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// The caller's `sub`; `None` as well for an anonymous request.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.identity.as_ref()?.subject.as_deref()
    }

    /// The segments of the canonical path: `/users/42` has `users` and `42`, `/` has none. A slash at
    /// the end, which a configuration can keep, makes no segment.
    pub fn path_segments(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter(|segment| !segment.is_empty())
    }
}

// === impl Identity ===

impl Identity {
    /// The claim that the manifest named at `position`; `None` where the token does not have it.
    #[must_use]
    pub fn claim(&self, position: usize) -> Option<&Value> {
        self.claims.get(position)?.as_ref()
    }

    /// Whether the token was granted `scope`.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|granted| granted == scope)
    }
}

// === impl Value ===

impl Value {
    /// The string, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is the string `text` or a list of strings with `text` among them, as for `aud`,
    /// which a token may carry either way.
    #[must_use]
    pub fn contains_text(&self, text: &str) -> bool {
        match self {
            Self::Text(only) => only == text,
            Self::Texts(texts) => texts.iter().any(|one| one == text),
            _ => false,
        }
    }
}

// === impl Decision ===

impl Decision {
    /// Lets the request pass as it is. To change it, begin with [`Allowed::new`].
    #[must_use]
    pub const fn allow() -> Self {
        Self::Allow(Allowed::new())
    }

    /// Refuses the request with an HTTP status and a short stable word for the logs. To say more to
    /// the client, begin with [`Denied::new`].
    #[must_use]
    pub fn deny(status: u16, reason: impl Into<String>) -> Self {
        Self::Deny(Denied::new(status, reason))
    }
}

impl From<Allowed> for Decision {
    fn from(allowed: Allowed) -> Self {
        Self::Allow(allowed)
    }
}

impl From<Denied> for Decision {
    fn from(denied: Denied) -> Self {
        Self::Deny(denied)
    }
}

// === impl Allowed ===

impl Allowed {
    /// Changes nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            set_request_headers: Vec::new(),
            remove_request_headers: Vec::new(),
            response_headers: Vec::new(),
            set_query_parameters: Vec::new(),
            remove_query_parameters: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// Sets a request header, replacing the client's. A name that a decision does not mention stays the
    /// client's, so mention what the upstream trusts on every allow, or leave it to the route's
    /// `identity_headers`.
    ///
    /// A value must arrive as it is: without blanks at its ends, which are lost on the way, and
    /// without control characters, for which the request is denied. An empty
    /// value removes the header.
    #[must_use]
    pub fn set_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_request_headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Removes a request header, in every spelling that servers take for the same name.
    #[must_use]
    pub fn remove_header(mut self, name: impl Into<String>) -> Self {
        self.remove_request_headers.push(name.into());
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn response_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.response_headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Sets a query parameter. Key and value are plain text: Portcullis percent-encodes them, and
    /// removes the client's own parameters of that name, however they are spelled.
    #[must_use]
    pub fn set_query(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_query_parameters.push(QueryParameter { key: key.into(), value: value.into() });
        self
    }

    /// Removes a query parameter. The key is plain text, and every spelling of it is removed.
    #[must_use]
    pub fn remove_query(mut self, key: impl Into<String>) -> Self {
        self.remove_query_parameters.push(key.into());
        self
    }

    /// Adds a value to Envoy's dynamic metadata.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.push(MetadataEntry { key: key.into(), value: value.into() });
        self
    }
}

impl Default for Allowed {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Denied ===

impl Denied {
    /// An HTTP status (200 to 599) and a short stable word for the logs, without a body. Envoy answers
    /// 403 in place of a status that it does not know.
    #[must_use]
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            body: String::new(),
            headers: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// The body of the response. An answer with status 204, 205 or 304 is sent without it.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Adds a value to Envoy's dynamic metadata.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.push(MetadataEntry { key: key.into(), value: value.into() });
        self
    }
}

// === impl errors ===

impl SettingsError {
    /// Refuses one setting: where it is, for example `rules[2].effect`, and what to write instead.
    #[must_use]
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(SettingsProblem { path: path.into(), message: message.into() })
    }

    /// Refuses text that is not in the settings format at all.
    #[must_use]
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::Syntax(message.into())
    }
}

impl EvaluateError {
    /// The request lacks or garbles something that the policy needs.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    /// A fault of the policy itself.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into())
    }
}

// === impl From for Value ===

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_manifest_asks_for_a_header_once_and_in_lower_case() {
        let manifest = Manifest::new().with_header("X-Tenant").with_header("x-tenant");
        assert_eq!(manifest.headers, ["x-tenant"]);
    }

    #[test]
    fn a_claim_is_found_at_its_position_in_the_manifest() {
        let identity = Identity {
            subject: None,
            issuer: None,
            token_id: None,
            scopes: vec!["read".to_owned()],
            expires_at: None,
            claims: vec![None, Some("gold".into())],
        };
        assert_eq!(identity.claim(0), None);
        assert_eq!(identity.claim(1).and_then(Value::as_text), Some("gold"));
        assert_eq!(identity.claim(2), None);
        assert!(identity.has_scope("read"));
        assert!(!identity.has_scope("rea"));
    }

    #[test]
    fn one_string_counts_as_a_list_of_one() {
        assert!(Value::Texts(vec!["a".to_owned(), "b".to_owned()]).contains_text("b"));
        assert!(Value::from("b").contains_text("b"));
        assert!(!Value::from("ab").contains_text("b"));
    }
}
