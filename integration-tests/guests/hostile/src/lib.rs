//! A policy that attacks its host, one attack per name, for the tests.
//!
//! Settings: `{"attack": "spin", "when_path": "/attack", "size": 1048576}`. It attacks where the
//! path begins with `when_path` (default `/attack`) and allows all other requests, so that a test
//! can verify that the next request is unharmed. Attacks on `configure` take place there instead.
//! Two names are no attacks: `echo` and `echo_nothing` return what the guest got. It is never
//! shipped.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod attack;
mod echo;

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
};

use portcullis_policy::{Decision, EvaluateError, Manifest, Policy, Request, SettingsError};
use serde_json::Value;

use crate::attack::Attack;

portcullis_policy::no_std_runtime!();
portcullis_policy::export!(HostileGuest);

/// The attack, and its condition.
#[derive(Debug)]
pub struct HostileGuest {
    attack: Attack,
    when_path: String,
    size: usize,
}

impl Policy for HostileGuest {
    fn configure(settings: &str) -> Result<(Self, Manifest), SettingsError> {
        let settings: Value = serde_json::from_str(settings)
            .map_err(|error| SettingsError::syntax(error.to_string()))?;
        let name = settings.get("attack").and_then(Value::as_str).unwrap_or_default();
        let attack = Attack::by_name(name).ok_or_else(|| {
            SettingsError::invalid("attack", format!("`{name}` is not an attack of this guest"))
        })?;
        let when_path = settings.get("when_path").and_then(Value::as_str).unwrap_or("/attack");
        let size = settings.get("size").and_then(Value::as_u64).unwrap_or(64 << 20);
        let guest = Self {
            attack,
            when_path: when_path.to_owned(),
            size: usize::try_from(size).unwrap_or(usize::MAX),
        };
        let manifest = attack.configure(guest.size)?;
        Ok((guest, manifest))
    }

    fn evaluate(&self, request: &Request) -> Result<Decision, EvaluateError> {
        if request.path.starts_with(&self.when_path) {
            self.attack.evaluate(request, self.size)
        } else {
            Ok(Decision::allow())
        }
    }
}
