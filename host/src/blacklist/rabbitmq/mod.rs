//! Owns RabbitMQ: connecting, what must exist there, reading the events and publishing them.
//!
//! The only place that knows AMQP. It does not know what an event means, and decides nothing: it
//! reports what arrives and what went wrong.

mod address;
mod connect;
mod error;
mod publisher;
mod session;
mod topology;

pub(crate) use self::{
    error::BrokerError,
    publisher::{PublishError, Published, Publisher},
    session::{Broker, From, Message, Session},
};
