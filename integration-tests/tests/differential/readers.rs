//! Models of how servers read a request line, a host and header names. The tables in `readers/`
//! hold the results of the real servers, and the models are checked against them.
//!
//! A model may accept a request that its server refuses, which makes the test stricter. It must
//! never refuse a request that its server accepts.

mod go;
mod java;
mod node;
mod python;
mod text;

pub(super) use text::one_mark;

use portcullis_integration_tests::wire::Arrival;

/// A part of a request as a server reads it; `None` where the server refuses it.
type Read = fn(&[u8]) -> Option<String>;

/// How a server, or the usual way of using it, reads a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    /// Its name in the tables.
    pub(super) name: &'static str,
    /// The table with its results; the proxy itself has none.
    pub(super) table: Option<&'static str>,
    pub(super) method: Read,
    pub(super) host: Read,
    pub(super) path: Read,
    /// The name under which it finds a header, `x-user-id` in lower case.
    pub(super) header: Read,
    /// Whether its paths are decoded already.
    pub(super) decodes: bool,
}

/// A request as a reader reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Reading {
    /// The server that it reached.
    pub(super) server: &'static str,
    pub(super) method: String,
    /// In lower case, as hosts should be compared.
    pub(super) host: String,
    pub(super) path: String,
}

/// The case-sensitive readers.
pub(super) const EXACT: [Reader; 12] = [
    node::URL,
    node::DECODED,
    go::MUX,
    go::CLEAN,
    python::WSGIREF,
    python::URLSPLIT,
    python::FLASK,
    python::DJANGO,
    python::DJANGO_ASGI,
    java::JDK,
    java::TOMCAT,
    java::SPRING,
];

/// The reader that treats `/Admin/` as `/admin`.
pub(super) const FOLDING: Reader = node::EXPRESS;

/// Envoy, which selects a virtual host: the server that was reached shows which one.
pub(super) const PROXY: Reader = Reader {
    name: "virtual_host",
    table: None,
    method: |method| Some(text::latin1(method)),
    host: |_| Some(String::new()),
    path: |target| Some(text::latin1(text::before(target, b"?#"))),
    header: |name| Some(text::lower(name)),
    decodes: false,
};

/// Every reader with a table.
pub(super) fn in_tables() -> impl Iterator<Item = Reader> {
    EXACT.into_iter().chain([FOLDING])
}

// === impl Reader ===

impl Reader {
    /// Reads a request; `None` where it refuses it.
    pub(super) fn read(&self, arrival: &Arrival) -> Option<Reading> {
        Some(Reading {
            server: arrival.server,
            method: (self.method)(&arrival.method)?,
            host: (self.host)(arrival.value(b"host")?)?.to_lowercase(),
            path: (self.path)(&arrival.target)?,
        })
    }

    /// The values of a header as it finds them.
    pub(super) fn values<'a>(&self, arrival: &'a Arrival, name: &str) -> Vec<&'a [u8]> {
        let found = |field: &&(Vec<u8>, Vec<u8>)| (self.header)(&field.0).as_deref() == Some(name);
        arrival.headers.iter().filter(found).map(|(_, value)| &value[..]).collect()
    }
}
