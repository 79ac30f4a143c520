//! The default policy of Portcullis: an ordered list of rules, written as settings.
//!
//! `docs/rules.md` describes the settings, `examples/` holds complete ones. Settings
//! are checked and compiled once, in `configure`; `evaluate` only compares. It decides nothing
//! by itself: a request that no rule matches is denied.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod claim;
mod claim_path;
mod claim_prefix;
mod condition;
mod conflict;
mod cover;
mod effect;
mod field;
mod glob;
mod header;
mod host;
mod inputs;
mod method;
mod path;
mod path_segment;
mod rule;
mod source;
mod status;

use alloc::format;

use portcullis_policy::{Decision, EvaluateError, Manifest, Policy, Request, SettingsError};

use crate::rule::RuleList;

portcullis_policy::no_std_runtime!();
portcullis_policy::export!(Rules);

/// The rules of one route.
#[derive(Debug)]
pub struct Rules(RuleList);

impl Policy for Rules {
    fn configure(settings: &str) -> Result<(Self, Manifest), SettingsError> {
        let settings = serde_json::from_str(settings).map_err(|error| {
            SettingsError::syntax(format!("the settings are not JSON: {error}"))
        })?;
        let (rules, manifest) = RuleList::read(&settings)?;
        Ok((Self(rules), manifest))
    }

    fn evaluate(&self, request: &Request) -> Result<Decision, EvaluateError> {
        Ok(self.0.decide(request))
    }
}
