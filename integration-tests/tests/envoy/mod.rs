//! Owns the tests with a real Envoy.
//!
//! `facts` is about Envoy alone, in front of a stub: what Portcullis relies on. All else has
//! Portcullis behind it.

mod facts;
