//! The RabbitMQ client: connections, topology, consuming and publishing events.
//!
//! The only module that knows AMQP. It does not know what an event means, and makes no decisions:
//! it reports what arrives and what went wrong.

mod address;
mod connect;
mod error;
mod nodes;
mod publisher;
mod session;
mod topology;

pub(crate) use self::{
    error::BrokerError,
    publisher::{PublishError, PublishOutcome, Publisher},
    session::{Broker, BrokerSession, Message, StartAt},
};
