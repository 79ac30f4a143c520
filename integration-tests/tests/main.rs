//! Owns the tests of Portcullis from outside: the real binary, a real Envoy, real services.

mod envoy;
mod revocation;
mod services;
