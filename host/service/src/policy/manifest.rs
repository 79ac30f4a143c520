//! Policy manifest: the inputs that a policy asked for, checked once when it is loaded.

use super::bindings::exports::portcullis::policy::evaluator as wit;

/// More than any policy needs; beyond it, a manifest is a mistake.
const MAX_ENTRIES: usize = 256;

/// What a policy reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Names of request headers, in lower case.
    pub headers: Vec<String>,
    /// Paths of claims.
    pub claims: Vec<Vec<String>>,
    /// Namespaces and paths of Envoy metadata.
    pub metadata: Vec<(String, Vec<String>)>,
    /// Optional parts of the request.
    pub parts: InputParts,
}

/// Which optional parts of a request a policy reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of the contract, one each")]
pub struct InputParts {
    /// The path as sent.
    pub raw_path: bool,
    /// The query.
    pub query: bool,
    /// Envoy's `context_extensions`.
    pub context: bool,
    /// The downstream peer.
    pub source: bool,
    /// The body.
    pub body: bool,
}

/// A manifest asks for something that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A header name is not one, or not in lower case.
    #[error(
        "its manifest asks for the header {0:?}; header names are written in lower case, \
             without pseudo headers"
    )]
    Header(String),
    /// A path has no element.
    #[error("its manifest has an empty claim or metadata path; name at least the claim itself")]
    EmptyPath,
    /// It asks for more than anyone can mean.
    #[error("its manifest has more than {MAX_ENTRIES} entries of one kind")]
    TooMany,
}

impl Manifest {
    /// Checks what a policy returned.
    pub(super) fn check(manifest: wit::Manifest) -> Result<Self, ManifestError> {
        let wit::Manifest { headers, claims, metadata, parts } = manifest;
        if [headers.len(), claims.len(), metadata.len()].iter().any(|len| *len > MAX_ENTRIES) {
            return Err(ManifestError::TooMany);
        }
        if let Some(name) = headers.iter().find(|name| !is_lower_case_name(name)) {
            return Err(ManifestError::Header(name.clone()));
        }
        if claims.iter().any(Vec::is_empty) {
            return Err(ManifestError::EmptyPath);
        }
        Ok(Self {
            headers,
            claims,
            metadata: metadata.into_iter().map(|entry| (entry.namespace, entry.path)).collect(),
            parts: InputParts {
                raw_path: parts.contains(wit::Parts::RAW_PATH),
                query: parts.contains(wit::Parts::QUERY),
                context: parts.contains(wit::Parts::CONTEXT),
                source: parts.contains(wit::Parts::SOURCE),
                body: parts.contains(wit::Parts::BODY),
            },
        })
    }
}

fn is_lower_case_name(name: &str) -> bool {
    http::HeaderName::from_lowercase(name.as_bytes()).is_ok()
}
