//! Owns the pipeline: route, token, blacklist, policy, guard, in this order.
//!
//! It returns a decision whatever happens; there is no error to mishandle.

mod authorize;

pub use authorize::{Authorize, ask, refuse};
