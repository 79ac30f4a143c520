//! Tests of the harness: the real services, and what tests can do to them.
//!
//! A test of Portcullis that kills a broker proves nothing if the broker was not killed.

mod link;
mod postgres;
mod publisher;
mod rabbitmq;
mod redis;
mod replicas;
mod sentinel;
mod wall_clock;
