//! Request lines: method, host and path of a request in their one reading, or why they have none.

use portcullis_types::{attributes::HttpAttributes, decision::Reason};

use super::{
    ambiguity::{self, Ambiguity},
    authority::{Host, HostsConfig, read_host},
    method::wrong_in_request,
    path::{CanonicalPath, PathConfig, canonicalize},
    route::RouteKey,
};

/// What a request is about, as the proxy forwards it and the upstream reads it. Without `Debug`, since
/// tokens may travel in the query.
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a str,
    pub(super) host: Host<'a>,
    pub(super) path: CanonicalPath<'a>,
    /// If the path has one reading only for routes that tolerate it.
    pub(super) ambiguity: Option<Ambiguity<'a>>,
}

impl<'a> RequestLine<'a> {
    /// Reads it. `tolerant` reads the paths that some route tolerates and `paths` does not.
    ///
    /// # Errors
    /// The reason to deny, and what exactly is wrong.
    pub(super) fn read(
        http: &'a HttpAttributes,
        hosts: HostsConfig,
        paths: &PathConfig,
        tolerant: Option<&PathConfig>,
    ) -> Result<Self, (Reason, String)> {
        if let Some(wrong) = wrong_in_request(&http.method) {
            return Err((Reason::MalformedRequest, wrong.to_owned()));
        }
        let host = read_host(&http.host, hosts)
            .map_err(|cause| (Reason::MalformedRequest, format!("host {cause}")))?;
        let (path, ambiguity) = match canonicalize(&http.path, paths) {
            Ok(path) => (path, None),
            Err(cause) => ambiguity::read(&http.path, cause, paths, tolerant)
                .map(|(path, ambiguity)| (path, Some(ambiguity)))
                .map_err(|cause| (cause.reason(), format!("path {cause}")))?,
        };
        Ok(Self { method: &http.method, host, path, ambiguity })
    }

    /// What its route is found by.
    pub(super) fn key(&'a self) -> RouteKey<'a> {
        RouteKey {
            host: &self.host,
            path: &self.path.path,
            method: Some(self.method),
            ambiguity: self.ambiguity.as_ref(),
        }
    }
}
