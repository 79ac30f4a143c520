//! Attributes of a check: the request to authorize, independent of the edge through which it
//! arrived.
//!
//! It does not know protobuf: the edges fill it in, everything below them only reads it.

mod cookies;
mod parameters;
mod spellings;

pub use cookies::{AmbiguousCookie, cookie, without_cookie};
pub use parameters::{AmbiguousQuery, decoded_name, parameters_alike, parameters_like};
use serde_json::{Map, Value};
pub use spellings::{fold_alike, likely_spellings};

/// The attributes of one check.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// The HTTP request; `None` when Envoy's network filter asks about a raw TCP connection.
    pub http: Option<HttpAttributes>,
    /// The downstream peer.
    pub source: Peer,
    /// Envoy's `context_extensions`, in no particular order.
    pub context_extensions: Vec<(String, String)>,
    /// Envoy's filter metadata, by namespace.
    pub metadata: Map<String, Value>,
}

/// An HTTP request as the client sent it.
///
/// `Debug` omits the header values and the query: tokens travel there.
#[derive(Clone, Default)]
pub struct HttpAttributes {
    /// Method, as sent.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The authority, port included, as sent.
    pub host: String,
    /// Path with query, as sent.
    pub path: String,
    /// Header fields, names in lower case, pseudo headers left out.
    pub headers: Headers,
    /// Which header fields those are.
    pub header_view: HeaderView,
    /// The body, where Envoy was configured to pass it.
    pub body: Option<Body>,
}

/// Header fields in the order in which they arrived, names in lower case.
#[derive(Clone, Default)]
pub struct Headers {
    /// Names and values, one after the other: one allocation for all of them.
    text: String,
    /// Where each name and each value ends.
    ends: Vec<(usize, usize)>,
}

/// Which of a request's headers a proxy shows, and whether it removes headers on request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeaderView {
    /// It shows all and removes any: Envoy over gRPC.
    #[default]
    Whole,
    /// It shows those that its configuration lists, and removes any: Envoy over HTTP.
    Listed,
    /// It shows all and removes none: nginx, Traefik, Caddy.
    ReadOnly,
}

/// The lengths of some header names. A request has few headers as long as one of them, so that most
/// are skipped without comparing their names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameLengths(u64);

/// A request body.
#[derive(Clone, Default)]
pub struct Body {
    /// The bytes that were passed on.
    pub bytes: Vec<u8>,
    /// Whether the body goes on after them.
    pub truncated: bool,
}

/// One end of a connection. Empty fields are unknown. `Debug` does not show the certificate.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// IP address.
    pub address: String,
    /// Port.
    pub port: u32,
    /// Identity in the peer's certificate, for example a SPIFFE id.
    pub principal: String,
    /// The peer's certificate in PEM format, percent-encoded, if Envoy passes it.
    pub certificate: String,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, port, principal, certificate: _ } = self;
        let mut shown = f.debug_struct("Peer");
        shown.field("address", address).field("port", port).field("principal", principal);
        shown.finish_non_exhaustive()
    }
}

/// Headers that describe the connection or the message, not the request (RFC 9110 section 7.6.1), and
/// those that proxies compute.
const OF_THE_MESSAGE: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header of this name, in lower case, is about the request, so that a proxy passes it on as
/// it is.
#[must_use]
pub fn is_end_to_end(name: &str) -> bool {
    !OF_THE_MESSAGE.contains(&name)
}

// === impl Headers ===

impl Headers {
    /// Collects fields, lower-casing their names.
    pub fn new(fields: impl IntoIterator<Item = (String, String)>) -> Self {
        fields.into_iter().collect()
    }

    /// Adds a field after all others, lower-casing its name.
    pub fn push(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text[start..].make_ascii_lowercase();
        self.text.push_str(value);
        self.ends.push((name_end, self.text.len()));
    }

    /// Makes room for fields whose names and values have so many bytes in all.
    pub fn reserve(&mut self, bytes: usize) {
        /// As many as browsers and proxies send in most cases.
        const FIELDS: usize = 24;
        self.text.reserve(bytes);
        self.ends.reserve(FIELDS);
    }

    /// Every value of `name`, which must be in lower case.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The first value of `name`, which must be in lower case.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&str> {
        self.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes all names and values have together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The name of each field that is as long as one of these names.
    pub fn names_as_long_as(&self, lengths: NameLengths) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().filter_map(move |(name_end, end)| {
            let name = start..*name_end;
            start = *end;
            lengths.has(name.len()).then(|| &self.text[name])
        })
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |(name_end, end)| {
            let field = (&self.text[start..*name_end], &self.text[*name_end..*end]);
            start = *end;
            field
        })
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(fields: T) -> Self {
        let mut headers = Self::default();
        fields.into_iter().for_each(|(name, value)| headers.push(&name, &value));
        headers
    }
}

// === impl NameLengths ===

impl NameLengths {
    /// Adds the length of a name.
    pub fn add(&mut self, name: &str) {
        self.0 |= Self::bit(name.len());
    }

    /// The lengths of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, length: usize) -> bool {
        self.0 & Self::bit(length) != 0
    }

    /// All long names share the last bit.
    fn bit(length: usize) -> u64 {
        1 << length.min(63)
    }
}

impl<'n> FromIterator<&'n str> for NameLengths {
    fn from_iter<T: IntoIterator<Item = &'n str>>(names: T) -> Self {
        let mut lengths = Self::default();
        names.into_iter().for_each(|name| lengths.add(name));
        lengths
    }
}

// === impl Debug ===

impl std::fmt::Debug for HttpAttributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.split(['?', '#']).next().unwrap_or_default();
        f.debug_struct("HttpAttributes")
            .field("method", &self.method)
            .field("scheme", &self.scheme)
            .field("host", &self.host)
            .field("path", &path)
            .field("headers", &self.headers)
            .field("header_view", &self.header_view)
            .field("body", &self.body)
            .finish()
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.bytes.len())
            .field("truncated", &self.truncated)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_found_in_lower_case() {
        let headers = Headers::new([("X-User-Id".to_owned(), "u1".to_owned())]);
        assert_eq!(headers.first("x-user-id"), Some("u1"));
        assert_eq!(headers.all("x-user-id").count(), 1);
    }

    #[test]
    fn names_are_found_by_their_length_however_long_they_are() {
        let long = "x".repeat(70);
        let names = ["a", "bb", "ccc", long.as_str()];
        let headers = Headers::new(names.map(|name| (name.to_owned(), "value".to_owned())));
        let found = |wanted: &[&str]| -> Vec<String> {
            let lengths = wanted.iter().copied().collect();
            headers.names_as_long_as(lengths).map(str::to_owned).collect()
        };
        assert_eq!(found(&["zz"]), ["bb"]);
        assert_eq!(found(&["z", "zzz"]), ["a", "ccc"]);
        assert_eq!(found(&["z".repeat(64).as_str()]), [long.as_str()]);
        assert_eq!(found(&[]), Vec::<String>::new());
    }

    #[test]
    fn debug_shows_no_header_value_and_no_query() {
        let http = HttpAttributes {
            path: "/a?access_token=tok3n".to_owned(),
            headers: Headers::new([("authorization".to_owned(), "Bearer tok3n".to_owned())]),
            ..HttpAttributes::default()
        };
        let shown = format!("{http:?}");
        assert!(!shown.contains("tok3n"), "{shown}");
        assert!(shown.contains("authorization"), "{shown}");
    }
}
