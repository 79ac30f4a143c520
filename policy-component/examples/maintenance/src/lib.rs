//! Refuses every request while maintenance goes on.
//!
//! Swap it in for the real policy of a route, and swap the real one back when the work is done. It
//! therefore takes whatever settings the real one has, and reads only `message` from them. A policy
//! should otherwise refuse a setting that it does not know: an operator who writes it expects it to
//! matter. It never lets anything pass.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::{borrow::ToOwned, string::String};

use portcullis_policy::{
    Decision, Denied, EvaluateError, Manifest, Policy, Request, SettingsError,
};

portcullis_policy::no_std_runtime!();
portcullis_policy::export!(Maintenance);

/// Answers 503 to everything.
#[derive(Debug)]
pub struct Maintenance {
    message: String,
}

impl Policy for Maintenance {
    fn configure(settings: &str) -> Result<(Self, Manifest), SettingsError> {
        let settings: serde_json::Value = serde_json::from_str(settings)
            .map_err(|_| SettingsError::syntax("the settings are not JSON"))?;
        let message = match settings.get("message") {
            None => "Down for maintenance, back in a minute.",
            Some(message) => message.as_str().ok_or_else(|| {
                SettingsError::invalid("message", "must be a string: what the client gets to read")
            })?,
        };
        Ok((Self { message: message.to_owned() }, Manifest::new()))
    }

    fn evaluate(&self, _: &Request) -> Result<Decision, EvaluateError> {
        let denied =
            Denied::new(503, "maintenance").body(&*self.message).header("retry-after", "60");
        Ok(denied.into())
    }
}
