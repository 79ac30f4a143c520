//! The broker as the driver knows it: a [`Broker`] to connect to, and a [`BrokerSession`] that
//! receives and sends.
//!
//! This is the seam for the simulation. Outside of tests both are those of RabbitMQ, by their own
//! names, so there is no call in between. In tests they are enums of RabbitMQ and of a scripted
//! broker. Redis needs no seam here: a simulated one answers commands, below the client
//! (`redis/simulated.rs`).

#[cfg(test)]
pub(super) use super::simulation::peers::{Broker, BrokerSession};
#[cfg(not(test))]
pub(super) use crate::rabbitmq::{Broker, BrokerSession};
