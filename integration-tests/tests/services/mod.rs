//! Owns the tests of what the other tests rely on: the real services, and what can be done to them.
//!
//! A test about Portcullis that kills a broker proves nothing if the broker was not killed.

mod link;
mod postgres;
mod publisher;
mod rabbitmq;
mod redis;
mod replicas;
mod sentinel;
