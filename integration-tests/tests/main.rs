//! Tests of Portcullis from outside: the real binary, a real Envoy, real services, and the files to
//! deploy it with.

mod deploy;
mod differential;
mod envoy;
mod issuer;
mod revocation;
mod services;
