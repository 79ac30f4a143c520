//! Write Portcullis policies in Rust.
//!
//! A policy is a type that implements [`Policy`] and is handed to [`export!`]:
//!
//! ```
//! use portcullis_policy::{
//!     Decision, EvaluateError, Manifest, Policy, Request, SettingsError,
//! };
//!
//! /// Lets only `GET` pass.
//! #[derive(Debug)]
//! struct ReadOnly;
//!
//! impl Policy for ReadOnly {
//!     fn configure(_settings: &str) -> Result<(Self, Manifest), SettingsError> {
//!         Ok((Self, Manifest::new()))
//!     }
//!
//!     fn evaluate(&self, request: &Request) -> Result<Decision, EvaluateError> {
//!         Ok(if request.method == "GET" {
//!             Decision::allow()
//!         } else {
//!             Decision::deny(405, "read-only")
//!         })
//!     }
//! }
//!
//! portcullis_policy::export!(ReadOnly);
//! # fn main() {}
//! ```
//!
//! Compile it as a `cdylib` for `wasm32-wasip2`; the file that comes out is the policy. An ordinary
//! crate will do. With `#![no_std]` and [`no_std_runtime!`] the component imports nothing at all,
//! is a tenth of the size and starts faster; see `policy-component/examples` for one of each.
//!
//! The types are generated from `wit/`, where each is described. This crate adds constructors and
//! look-ups to them. It adds no behaviour to a decision.

#![no_std]

extern crate alloc;

mod ext;
mod policy;
mod runtime;

#[doc(hidden)]
pub mod bindings;

pub use bindings::exports::portcullis::policy::evaluator::{
    Allowed, Body, ClaimPath, ContextEntry, Decision, Denied, EvaluateError, Header, Identity,
    Manifest, MetadataEntry, MetadataPath, Parts, Peer, QueryParameter, Request, SettingsError,
    SettingsProblem, Value,
};
pub use policy::Policy;

#[doc(hidden)]
pub mod __private {
    //! What the macros of this crate expand to. Not for use by hand.

    pub use alloc::string::String;

    pub use crate::policy::Configured;
    #[cfg(target_arch = "wasm32")]
    pub use crate::runtime::{Allocator, abort, reallocate};
}
