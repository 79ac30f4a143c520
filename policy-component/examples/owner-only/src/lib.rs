//! Lets a user reach `/users/{their own id}` and what is below it, and nothing else.
//!
//! An ordinary crate with the standard library. The component comes out with a few `wasi:cli` and
//! `wasi:io` imports, which Portcullis satisfies with traps: to use one of them, say for an
//! environment variable, ends the call. It never looks at anything but the path and the subject.

use portcullis_policy::{Decision, EvaluateError, Manifest, Policy, Request, SettingsError};

portcullis_policy::export!(OwnerOnly);

/// The path's second segment must be the caller's `sub`.
#[derive(Debug)]
pub struct OwnerOnly;

impl Policy for OwnerOnly {
    fn configure(settings: &str) -> Result<(Self, Manifest), SettingsError> {
        if settings != "null" {
            return Err(SettingsError::invalid("", "this policy has no settings; remove them"));
        }
        Ok((Self, Manifest::new()))
    }

    fn evaluate(&self, request: &Request) -> Result<Decision, EvaluateError> {
        let segments: Vec<&str> = request.path_segments().take(2).collect();
        Ok(match (segments.as_slice(), request.subject()) {
            (["users", owner], Some(subject)) if *owner == subject => Decision::allow(),
            _ => Decision::deny(403, "not-owner"),
        })
    }
}
