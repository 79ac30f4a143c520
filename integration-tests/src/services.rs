//! Owns the real services that Portcullis works with, in containers, and what goes wrong with them:
//! killed, paused, started again, emptied, cut off.
//!
//! What starts in here listens on loopback, on ports that it keeps when it is started again, and is
//! removed when it is dropped. The same command lines work with the official images and with the
//! one that `make images` builds from Debian packages.

mod container;
mod images;
pub mod link;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod redis_client;
pub mod sentinel;

pub use self::{
    container::hold_for_any_time, link::Link, postgres::Postgres, rabbitmq::RabbitMq, redis::Redis,
    redis_client::RedisClient, sentinel::RedisSentinel,
};
