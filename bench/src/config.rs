//! Configurations of Portcullis for the benchmark, and the files that they name.
//!
//! There is one configuration, as an operator would write it, and variants that change one key. All
//! other keys are left out, so that the benchmark measures the defaults.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    request::{HOST, SUBJECT_HEADER},
    token::{AUDIENCE, ISSUER, KEY_ID},
};

/// The settings of the rule policy on the measured route.
const RULES: &str = include_str!("../rules.json");

/// Variants of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Without a token cache: the signature is verified on every request.
    VerifyEachTime,
    /// The default.
    Default,
    /// Every request gets a fresh policy instance.
    FreshInstance,
    /// The default, but the issuer signs with a shared secret, which is cheap.
    SharedSecret,
}

/// The files that every variant shares.
pub(crate) struct Files {
    folder: PathBuf,
    /// The rule policy.
    component: PathBuf,
    /// The secret of the admin edge.
    pub(crate) admin_token: String,
    /// The shared secret of the issuer, for cheap signatures.
    pub(crate) issuer_secret: String,
}

/// A file of the benchmark could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("bench/rules.json is not JSON: {0}")]
    Rules(#[from] serde_json::Error),
}

// === impl Files ===

impl Files {
    /// Writes the issuer's public key and the admin token into `folder`.
    pub(crate) fn write(
        folder: &Path,
        component: &Path,
        public_pem: &str,
        [admin_token, issuer_secret]: [String; 2],
    ) -> Result<Self, WriteError> {
        let (folder, component) = (folder.to_owned(), component.to_owned());
        let files = Self { folder, component, admin_token, issuer_secret };
        files.put("issuer.pem", public_pem)?;
        files.put("admin-token", &files.admin_token)?;
        Ok(files)
    }

    /// Writes the configuration for `variant` and returns its path.
    pub(crate) fn configuration(&self, variant: Variant) -> Result<PathBuf, WriteError> {
        let mut config = self.shared()?;
        match variant {
            Variant::VerifyEachTime => config["tokens"] = json!({"cache_capacity": 0}),
            Variant::Default => {}
            Variant::FreshInstance => config["policy_host"] = json!({"instance_reuse": 1}),
            Variant::SharedSecret => {
                let secret_file = self.put("issuer-secret", &self.issuer_secret)?;
                let key = json!({"secret_file": secret_file, "algorithm": "HS256"});
                config["issuers"]["shop"]["keys"] = json!([key]);
                // Single calls may be late on a busy machine, which is not measured here.
                config["routes"][2]["deadline"] = json!("1s");
            }
        }
        // JSON is YAML too.
        self.put(&format!("{variant:?}.yaml"), &format!("{config:#}\n"))
    }

    /// The path of a file in the folder that another part writes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The configuration that all variants share.
    fn shared(&self) -> Result<Value, WriteError> {
        let rules: Value = serde_json::from_str(RULES)?;
        let key = json!({
            "pem_file": self.path("issuer.pem"), "algorithm": "RS256", "kid": KEY_ID,
        });
        Ok(json!({
            "grpc": {"listen": "127.0.0.1:0"},
            "http": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0", "token_file": self.path("admin-token")},
            "issuers": {"shop": {"issuer": ISSUER, "audiences": [AUDIENCE], "keys": [key]}},
            "policies": {"rules": {"file": self.component}},
            "routes": [
                {
                    "name": "health",
                    "match": {"paths": ["/healthz", "/api/health"]},
                    "token": "ignored",
                    "allow_without_policy": true,
                },
                {
                    "name": "login",
                    "match": {"hosts": [HOST], "paths": ["/api/v1/auth/*"]},
                    "token": "ignored",
                    "allow_without_policy": true,
                },
                {
                    "name": "api",
                    "match": {"hosts": [HOST], "paths": ["/api/*"]},
                    "token": "required",
                    "issuers": ["shop"],
                    "policy": "rules",
                    "settings": rules,
                    "identity_headers": {
                        SUBJECT_HEADER: ["sub"],
                        "x-auth-provider": ["provider"],
                    },
                },
            ],
        }))
    }

    fn put(&self, name: &str, content: &str) -> Result<PathBuf, WriteError> {
        let path = self.path(name);
        match fs::write(&path, content) {
            Ok(()) => Ok(path),
            Err(source) => Err(WriteError::Write { path, source }),
        }
    }
}
