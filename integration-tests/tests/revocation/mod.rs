//! Owns the tests of revocation with real services: what is revoked there is refused by a real Envoy.

mod modes;
mod receipt;
mod relay;
mod relay_process;
mod revoke;
