//! Owns the manifest while it is gathered: each rule asks for what it will read, and for no more.

use alloc::{string::ToString, vec::Vec};

use portcullis_policy::{Manifest, Parts};

/// What the rules read so far.
#[derive(Debug, Default)]
pub(crate) struct Inputs(Manifest);

impl Inputs {
    /// Asks for a claim; returns its position.
    pub(crate) fn claim(&mut self, path: &[&str]) -> usize {
        let claims = &mut self.0.claims;
        claims.iter().position(|known| known == path).unwrap_or_else(|| {
            claims.push(path.iter().map(ToString::to_string).collect::<Vec<_>>());
            claims.len() - 1
        })
    }

    /// Asks for a request header; `name` in lower case.
    pub(crate) fn header(&mut self, name: &str) {
        if !self.0.headers.iter().any(|known| known == name) {
            self.0.headers.push(name.to_string());
        }
    }

    /// Asks for an optional part of the request.
    pub(crate) fn part(&mut self, part: Parts) {
        self.0.parts = self.0.parts | part;
    }

    /// What all rules together read.
    pub(crate) fn into_manifest(self) -> Manifest {
        self.0
    }
}
