//! Owns the tests of Portcullis from outside: the real binary, a real Envoy, real services, and the
//! files to deploy it by.

mod deploy;
mod differential;
mod envoy;
mod revocation;
mod services;
