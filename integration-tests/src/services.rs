//! Real services in containers, and their faults: killed, paused, restarted, emptied, cut off.
//!
//! Each service listens on loopback, keeps its ports when it is restarted, and is removed when it
//! is dropped. The same command lines work with the official images and with the image that `make
//! images` builds from Debian packages.

mod container;
mod images;
pub mod link;
pub mod postgres;
pub mod rabbitmq;
pub mod rabbitmq_cluster;
pub mod redis;
pub mod redis_client;
pub mod sentinel;

pub use self::{
    container::hold_for_any_time, link::Link, postgres::Postgres, rabbitmq::RabbitMq,
    rabbitmq_cluster::RabbitMqCluster, redis::Redis, redis_client::RedisClient,
    sentinel::RedisSentinel,
};
