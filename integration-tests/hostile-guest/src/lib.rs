//! skeleton
#![cfg_attr(target_arch = "wasm32", no_std)]

use portcullis_policy::{Decision, EvaluateError, Manifest, Policy, Request, SettingsError};

portcullis_policy::no_std_runtime!();
portcullis_policy::export!(Rules);

/// The list of rules.
#[derive(Debug)]
pub struct Rules;

impl Policy for Rules {
    fn configure(_settings: &str) -> Result<(Self, Manifest), SettingsError> {
        Ok((Self, Manifest::new()))
    }

    fn evaluate(&self, request: &Request) -> Result<Decision, EvaluateError> {
        Ok(if request.identity.is_some() {
            Decision::allow()
        } else {
            Decision::deny(403, "no-rule-matches")
        })
    }
}
