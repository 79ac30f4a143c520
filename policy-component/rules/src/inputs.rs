//! Manifest builder: each rule asks for what it will read, and for no more.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use portcullis_policy::{Manifest, Parts};

use crate::path::PathOptions;

/// What the rules read so far.
#[derive(Debug)]
pub(crate) struct Inputs {
    manifest: Manifest,
    /// How the path that they are given was made.
    pub(crate) paths: PathOptions,
}

impl Inputs {
    /// Nothing is read yet.
    pub(crate) fn new(paths: PathOptions) -> Self {
        Self { manifest: Manifest::new(), paths }
    }

    /// Asks for a claim; returns its position.
    pub(crate) fn claim(&mut self, path: Vec<String>) -> usize {
        let claims = &mut self.manifest.claims;
        claims.iter().position(|known| *known == path).unwrap_or_else(|| {
            claims.push(path);
            claims.len() - 1
        })
    }

    /// Asks for a request header; `name` in lower case.
    pub(crate) fn header(&mut self, name: &str) {
        if !self.manifest.headers.iter().any(|known| known == name) {
            self.manifest.headers.push(name.to_string());
        }
    }

    /// Asks for an optional part of the request.
    pub(crate) fn part(&mut self, part: Parts) {
        self.manifest.parts = self.manifest.parts | part;
    }

    /// What all rules together read.
    pub(crate) fn into_manifest(self) -> Manifest {
        self.manifest
    }
}
