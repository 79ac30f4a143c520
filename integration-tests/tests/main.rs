//! Owns the tests of Portcullis from outside: the real binary, a real Envoy.

mod envoy;
